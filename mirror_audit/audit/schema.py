"""The JSON Schema of a record (draft 2020-12), made from the dataclasses of its definition.

The schema is strict: all fields required, no others allowed, one body that fits the kind. It describes what
this version writes; readers should ignore fields that they do not know, as `Record` does.
"""

import json
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from mirror_audit.audit.bodies import BODIES, Keywords
from mirror_audit.audit.record import SCHEMA_VERSION, Envelope, json_name

__all__ = ["record_schema", "schema_text"]

_SCALARS = {str: "string", int: "integer", bool: "boolean"}


def record_schema() -> dict[str, Any]:
    """The schema as a dict that `json.dumps` takes."""
    envelope = _object_schema(Envelope)
    definitions: dict[str, Any] = {}
    bodies = {}
    for kind, body in BODIES.items():
        _define(body, definitions)
        bodies[kind] = {"$ref": f"#/$defs/{body.__name__}"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"mirror_audit record {SCHEMA_VERSION}",
        "description": "One JSON object a line: the envelope, then one body whose key is the kind.",
        "type": "object",
        "required": envelope["required"],
        "additionalProperties": False,
        # All of the envelope and the kind's own body are required: no room for a second body.
        "maxProperties": len(envelope["required"]) + 1,
        "properties": envelope["properties"] | bodies,
        "allOf": [
            {"if": {"properties": {"kind": {"const": kind}}}, "then": {"required": [kind]}} for kind in BODIES
        ],
        "$defs": definitions,
    }


def schema_text() -> str:
    """The schema as indented JSON with a newline at its end: the very content of docs/record.schema.json."""
    return json.dumps(record_schema(), indent=2) + "\n"


def _define(cls: type[Any], definitions: dict[str, Any]) -> None:
    for hint in get_type_hints(cls).values():
        for inner in (hint, *get_args(hint)):
            for candidate in (inner, *get_args(inner)):
                if is_dataclass(candidate) and isinstance(candidate, type):
                    _define(candidate, definitions)
    definitions[cls.__name__] = _object_schema(cls)


def _object_schema(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    properties = {json_name(item.name): _schema(hints[item.name]) for item in fields(cls)}
    return {
        "description": cls.__doc__,
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


def _schema(hint: Any) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        described: dict[str, Any] = {}
        keywords: dict[str, Any] = {}
        for note in arguments[1:]:
            if isinstance(note, Keywords):
                keywords |= {key: value for key, value in asdict(note).items() if value is not None}
            else:
                described["description"] = note
        return described | _schema(arguments[0]) | keywords
    if origin in (types.UnionType, Union):
        return _nullable(_schema(next(item for item in arguments if item is not types.NoneType)))
    if origin is Literal:
        return {"type": _SCALARS[type(arguments[0])], "enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if is_dataclass(hint) and isinstance(hint, type):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {"type": _SCALARS[hint]}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    schema = schema | {"type": [schema["type"], "null"]}
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    return schema
