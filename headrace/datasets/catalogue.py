"""The datasets that are declared: those shipped with Headrace, and those in a folder of the user's own."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import fastavro
from pydantic import ValidationError

from headrace.codec.avro import MARKER, MalformedEvent, schema_fingerprint
from headrace.codec.records import Record, texts
from headrace.datasets import schema
from headrace.datasets.declaration import Declaration
from headrace.datasets.encoding import Encoder
from headrace.datasets.errors import DatasetMalformed, DatasetTwice, UnknownDataset
from headrace.events import EndMarker
from headrace.resources import resource
from headrace.topics import CHUNKS, CHUNKS_PERSONAL, Topic

TOPIC_PREFIX = "records."


class Dataset:
    """One dataset, ready for use: its declaration, schema, topic and encoder.

    `older` are schemas that its records were written with before; the topic may still hold some.
    """

    def __init__(
        self, declaration: Declaration, avro: dict[str, Any], older: list[dict[str, Any]], declared_in: Path
    ) -> None:
        self.declaration = declaration
        self.name = declaration.name
        self.schema = avro
        self.declared_in = declared_in
        self.fingerprint = schema_fingerprint(avro)
        self.header = MARKER + self.fingerprint
        self._older = {schema_fingerprint(each): each for each in older}

    def in_dialect(self, encoding: str | None, delimiter: str | None) -> Dataset:
        """The same dataset, for a file in another encoding or with another delimiter; None: as declared.

        Raises pydantic's ValidationError.
        """
        said = {"encoding": encoding, "delimiter": delimiter}
        changes = {name: value for name, value in said.items() if value is not None}
        declaration = Declaration.model_validate({**self.declaration.model_dump(by_alias=True), **changes})
        return Dataset(declaration, self.schema, list(self._older.values()), self.declared_in)

    @cached_property
    def topic(self) -> Topic:
        """Where its records go."""
        declaration = self.declaration
        return Topic(
            TOPIC_PREFIX + self.name,
            purpose=f"records of the dataset {self.name}: {declaration.purpose}",
            key=" and ".join(declaration.key) + ", as one part",
            values=(EndMarker,),
            framing="records",
            retention=declaration.retention,
            # An end marker holds up to 1 MiB of line numbers.
            max_message_bytes=CHUNKS.max_message_bytes,
            item="offset",
            schemas=(self.fingerprint, *self._older),
        )

    @property
    def chunks(self) -> Topic:
        """Where the bytes of its files go."""
        return CHUNKS_PERSONAL if self.declaration.personal else CHUNKS

    @cached_property
    def encoder(self) -> Encoder:
        """Makes keys and bodies of its records."""
        return Encoder(self.declaration)

    @cached_property
    def _names(self) -> Mapping[str, str]:
        return {column.field: column.name for column in self.declaration.columns}

    @cached_property
    def plain(self) -> bool:
        """Whether all that a record has are texts."""
        return all(column.type == "string" and column.empty == "keep" for column in self.declaration.columns)

    def row(self, record: Record) -> dict[str, Any]:
        """A record's values by the names of the columns. Raises UnknownSchema or MalformedEvent."""
        names = self._names
        if self.plain and record.schema == self.fingerprint:
            values = texts(record.body)
            if len(values) != len(names):
                raise MalformedEvent(event="record", problem=f"it has {len(values)} fields")
            return dict(zip(names.values(), values, strict=True))
        return {names[field]: value for field, value in record.fields(self.readers).items()}

    @cached_property
    def readers(self) -> Mapping[bytes, Any]:
        """Its schemas, parsed, by fingerprint; see `headrace.codec.records.Record.fields`."""
        return {
            mark: fastavro.parse_schema(each) for mark, each in {self.fingerprint: self.schema, **self._older}.items()
        }


class Datasets(Mapping[str, Dataset]):
    """All datasets by name.

    Parameters:
        folder: of the user's own declarations, beside the shipped ones.

    Raises DatasetMalformed, DatasetTwice.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._datasets: dict[str, Dataset] = {}
        for place in (resource("schemas", "datasets"), folder):
            if place is None:
                continue
            if not place.is_dir():
                raise DatasetMalformed(file=place, place="datasets.folder", problem="there is no such folder")
            for file in sorted(place.glob("*.toml")):
                dataset = read(file)
                known = self._datasets.get(dataset.name)
                if known is not None:
                    raise DatasetTwice(name=dataset.name, first=known.declared_in, second=file)
                self._datasets[dataset.name] = dataset

    def named(self, name: str) -> Dataset:
        """The dataset of that name.

        Raises UnknownDataset with the list of those that there are.
        """
        found = self._datasets.get(name)
        if found is None:
            raise UnknownDataset(name=name, valid=", ".join(self._datasets) or "none")
        return found

    def __getitem__(self, name: str) -> Dataset:
        return self._datasets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)


def chunks_of(dataset: str | None, folder: Path | None) -> Topic:
    """Where the bytes of files of the dataset with that name go, or of none.

    Parameters:
        folder: of the user's own declarations.

    Raises UnknownDataset, since what is not declared here may be personal, DatasetMalformed, DatasetTwice.
    """
    return CHUNKS if dataset is None else Datasets(folder).named(dataset).chunks


def read(file: Path) -> Dataset:
    """The dataset that a file declares.

    Raises DatasetMalformed.
    """
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise DatasetMalformed(file=file, place="the file", problem=error.strerror) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetMalformed(file=file, place="the file", problem=error) from error
    try:
        declaration = Declaration.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = str(first["msg"]).removeprefix("Value error, ")
        raise DatasetMalformed(file=file, place=_place(raw, first["loc"]), problem=problem) from error
    if declaration.name != file.stem:
        problem = f"the file of the dataset {declaration.name!r} must be called {declaration.name}.toml"
        raise DatasetMalformed(file=file, place="name", problem=problem)
    avro = schema.generated(declaration)
    if declaration.schema_file is not None:
        avro = _own_schema(file, declaration.schema_file, declaration)
    history = sorted((file.parent / "history").glob(f"{declaration.name}.*.avsc"))
    return Dataset(declaration, avro, [_json(file, each) for each in history], file)


def _own_schema(file: Path, name: str, declaration: Declaration) -> dict[str, Any]:
    place = file.parent / name
    if place.parent != file.parent or place.suffix != ".avsc":
        raise DatasetMalformed(file=file, place="schema", problem=f"{name!r} is no .avsc file beside this one")
    try:
        return schema.checked(_json(file, place), declaration)
    except schema.SchemaDiffers as error:
        raise DatasetMalformed(file=file, place=f"schema {name}", problem=error) from error


def _json(file: Path, place: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(place.read_text("utf-8"))
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise DatasetMalformed(file=file, place=place.name, problem=problem) from error
    return found


def _place(raw: Mapping[str, Any], location: tuple[int | str, ...]) -> str:
    """Where something is wrong, in words: columns are named, not numbered."""
    if len(location) >= 2 and location[0] == "columns" and isinstance(location[1], int):
        column = raw["columns"][location[1]]
        name = column.get("name") if isinstance(column, dict) else None
        return ".".join((f"column {name or location[1] + 1}", *(str(part) for part in location[2:])))
    return ".".join(str(part) for part in location) or "the file"
