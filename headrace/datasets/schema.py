"""The Avro schema of a dataset's records: job, file and line, then the dataset's fields. Source: design section 9."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastavro.schema import to_parsing_canonical_form

from headrace.datasets.declaration import Column, Declaration

NAMESPACE = "headrace.records"

FIRST_FIELDS: Sequence[dict[str, Any]] = (
    {"name": "job", "type": ["null", "string"], "default": None},
    {"name": "file", "type": {"type": "fixed", "name": "Id", "size": 16, "namespace": "headrace"}},
    {"name": "line", "type": "long", "doc": "physical line in the file, from 1; zip members are counted through"},
)

_TYPES: dict[str, Any] = {
    "date": {"type": "int", "logicalType": "date"},
    "timestamp": {"type": "long", "logicalType": "timestamp-micros"},
}


class SchemaDiffers(ValueError):
    """An .avsc does not say what the columns say."""


def generated(declaration: Declaration) -> dict[str, Any]:
    """The schema that follows from the columns."""
    return {
        "type": "record",
        "name": declaration.name,
        "namespace": NAMESPACE,
        "doc": declaration.purpose,
        "fields": [*FIRST_FIELDS, *(_field(column) for column in declaration.columns)],
    }


def checked(given: Any, declaration: Declaration) -> dict[str, Any]:
    """A schema of the user's own, if it has the same fields and types as the columns say.

    Raises SchemaDiffers.
    """
    wanted = generated(declaration)
    if not isinstance(given, dict) or given.get("type") != "record":
        raise SchemaDiffers("it is no record")
    own = given | {"name": wanted["name"], "namespace": NAMESPACE, "aliases": []}
    try:
        differs = to_parsing_canonical_form(_bare(own)) != to_parsing_canonical_form(_bare(wanted))
    except (KeyError, TypeError, ValueError) as error:
        raise SchemaDiffers(f"it is no Avro schema: {type(error).__name__}") from error
    if differs:
        fields = ", ".join(f"{field['name']}: {field['type']}" for field in wanted["fields"])
        raise SchemaDiffers(f"its fields must be {fields}")
    return given


def _field(column: Column) -> dict[str, Any]:
    kind = _TYPES.get(column.type, column.type)
    field: dict[str, Any] = {"name": column.field, "type": ["null", kind] if column.empty == "null" else kind}
    if column.empty == "null":
        field["default"] = None
    if column.doc:
        field["doc"] = column.doc
    return field


def _bare(schema: Any) -> Any:
    """The schema without what means nothing for the bytes, such as the name of a logical type."""
    if isinstance(schema, dict):
        return {name: _bare(value) for name, value in schema.items() if name != "logicalType"}
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    return schema
