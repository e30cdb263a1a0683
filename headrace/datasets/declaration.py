"""What a dataset is, as its file declares it: dialect, encoding, columns, key, rules.

Source: design section 3; reference art 2.1 for the dialect, 4.2 R2 for the rules.
"""

from __future__ import annotations

import codecs
import re
from datetime import timedelta
from typing import Literal

from pydantic import Field, field_validator, model_validator

from headrace.config import Duration, Section

Kind = Literal["string", "int", "long", "double", "boolean", "date", "timestamp"]
Empty = Literal["keep", "null", "refuse"]

RESERVED_FIELDS = frozenset({"job", "file", "line"})

_NO_FIELD_NAME = re.compile(r"[^A-Za-z0-9_]+")
_ASCII = bytes(range(128))


class Column(Section):
    """One column of the file, and the field of the record that it becomes."""

    name: str = Field(description="Name in the header; case does not count.", min_length=1)
    field: str = Field(
        "", description="Field of the record; by default the name, with underscores for what Avro takes not."
    )
    type: Kind = Field("string", description="What its values are.")
    empty: Empty = Field(
        "keep", description='An empty value: kept as "", made null, or a reason to refuse the row (all but strings).'
    )
    optional: bool = Field(False, description="The file may lack the column; then all its values are empty.")
    doc: str | None = Field(None, description="What the values mean, for the schema.")

    @model_validator(mode="after")
    def _complete(self) -> Column:
        if not self.field:
            object.__setattr__(self, "field", _NO_FIELD_NAME.sub("_", self.name).strip("_"))
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.field):
            raise ValueError(f"{self.field!r} is no name for a field; give the column another one: field = ...")
        if self.field in RESERVED_FIELDS:
            raise ValueError(f"every record has a field {self.field!r} already; give the column another: field = ...")
        if self.type != "string" and self.empty == "keep":
            if "empty" in self.model_fields_set:
                raise ValueError(f'an empty value is no {self.type}: say empty = "null" or "refuse"')
            object.__setattr__(self, "empty", "refuse")
        if self.optional and self.empty == "refuse":
            raise ValueError('a column that may be missing needs empty = "null", or "keep" for strings')
        return self


class Rules(Section):
    """When a whole file is refused."""

    bad_share: float = Field(0.05, ge=0, le=1, description="Refuse a file with a larger share of bad rows than this.")
    bad_rows: int = Field(100, ge=0, description="But never for this many bad rows or fewer.")
    shrink: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Refuse a file whose rows are fewer by more than this share than in the last one that was delivered"
        " of the same dataset and source.",
    )
    extra_columns: Literal["ignore", "refuse"] = Field(
        "ignore", description="What a column that is not declared means; ignored ones are not published."
    )


class Declaration(Section):
    """A dataset as its file declares it."""

    name: str = Field(description="Its name, also that of the file.", pattern=r"^[a-z][a-z0-9_]{0,99}$")
    purpose: str = Field(description="What the records are, in a line.")
    encoding: str = Field("utf-8", description="Encoding of the file.")
    delimiter: str = Field(",", description="One character between fields.")
    quoting: Literal["none", "double"] = Field(
        "double", description='Whether fields may stand in double quotes (RFC 4180); with "none" a quote is a letter.'
    )
    multiline: bool = Field(False, description="Whether a quoted field may hold line breaks.")
    header: bool = Field(True, description="Whether the first line of each file or zip member names the columns.")
    key: list[str] = Field(description="Names of the columns that make the record's key.", min_length=1)
    personal: bool = Field(False, description="Whether the files and records hold personal data.")
    retention: Duration = Field(
        default_factory=lambda known: timedelta(days=2 if known.get("personal") else 7),
        description="How long records are kept.",
        gt=timedelta(0),
    )
    schema_file: str | None = Field(
        None, alias="schema", description="An .avsc beside the file, with name and docs of your own for the record."
    )
    rules: Rules = Rules()
    columns: list[Column] = Field(description="The columns that are published.", min_length=1)

    @field_validator("encoding")
    @classmethod
    def _holds_ascii(cls, encoding: str) -> str:
        try:
            name = codecs.lookup(encoding).name
            if bytes(_ASCII).decode(name) != _ASCII.decode("ascii"):
                raise ValueError
        except LookupError as error:
            raise ValueError(f"Python knows no encoding {encoding!r}") from error
        except ValueError as error:
            raise ValueError(f"{encoding!r} is no encoding in which ASCII stays ASCII, as lines must be") from error
        return name

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str) -> str:
        if len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii():
            raise ValueError("it must be one ASCII character, and no quote or line break")
        return delimiter

    @model_validator(mode="after")
    def _fits_together(self) -> Declaration:
        for kind, names in (
            ("column", [column.name.casefold() for column in self.columns]),
            ("field", [column.field for column in self.columns]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"two columns have the {kind} name {twice!r}")
        known = {column.name: column for column in self.columns}
        for name in self.key:
            if name not in known:
                raise ValueError(f"the key names {name!r}, which is no column; there are: {', '.join(known)}")
            if known[name].optional:
                raise ValueError(f"the key column {name!r} cannot be optional")
        if self.multiline and self.quoting == "none":
            raise ValueError('multiline needs quoting = "double"')
        if not self.header and any(column.optional for column in self.columns):
            raise ValueError("without a header no column can be optional")
        return self
