"""The parts of docs/ that are made from the code. `python -m tests.docs.generate` writes them anew.

A generated part stands between `<!-- made: NAME -->` and `<!-- end -->`; docs/record.schema.json is all made.
"""

import re
from pathlib import Path
from typing import Any

import click

from mirror_audit.audit.bodies import BODIES
from mirror_audit.audit.schema import record_schema, schema_text
from mirror_audit.cli.main import main

__all__ = ["DOCS", "commands", "field_paths", "made_files"]

DOCS = Path(__file__).resolve().parents[2] / "docs"
_PART = re.compile(r"(<!-- made: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def made_files() -> dict[Path, str]:
    """{file: what it has to hold}."""
    files = {DOCS / "record.schema.json": schema_text()}
    for name in ("record.md", "cli.md"):
        path = DOCS / name
        files[path] = _PART.sub(
            lambda match: f"{match[1]}\n{_made(match[2])}\n{match[3]}", path.read_text(encoding="utf-8")
        )
    return files


def field_paths() -> list[str]:
    """Every field of the schema by its path: `user`, `statement.parameters[].oid`, ..."""
    schema = record_schema()
    paths = []
    for name, field in schema["properties"].items():
        if name in BODIES:
            paths.extend(_paths(schema, field, name))
        else:
            paths.append(name)
    return paths


def commands() -> dict[str, click.Command]:
    """The commands of the program, and itself under its own name."""
    return {"mirror-audit": main} | {f"mirror-audit {name}": one for name, one in main.commands.items()}


def _made(name: str) -> str:
    kind, _, subject = name.partition(" ")
    if kind == "fields":
        schema = record_schema()
        return _table(schema if subject == "Envelope" else schema["$defs"][subject])
    if kind == "help":
        command = commands()[subject]
        context = click.Context(command, info_name=subject, max_content_width=100, terminal_width=100)
        context.help_option_names = ["-h", "--help"]
        return f"```text\n{command.get_help(context)}\n```\n"
    raise ValueError(f"nothing makes {name!r}")


def _table(schema: dict[str, Any]) -> str:
    lines = ["| field | type | meaning |", "| --- | --- | --- |"]
    # Of the record itself only what is always there: the bodies have sections of their own.
    for name in schema["required"]:
        field = schema["properties"][name]
        lines.append(f"| `{name}` | {_type(field)} | {field['description']} |")
    return "\n".join(lines) + "\n"


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return f"{_type(field['anyOf'][0])} or null"
    if "$ref" in field:
        return _link(field["$ref"])
    types = field["type"] if isinstance(field["type"], list) else [field["type"]]
    name = str(types[0])
    if name == "array":
        name = f"list of {_type(field['items'])}"
    elif name == "object":
        name = "object of strings"
    elif "enum" in field:
        name = ", ".join(f"`{value}`" for value in field["enum"] if value is not None and value is not False)
        name = name or "`false`"
    return f"{name} or null" if "null" in types else name


def _link(reference: str) -> str:
    name = reference.rpartition("/")[2]
    return f"[{name}](#{name.lower()})"


def _paths(schema: dict[str, Any], field: dict[str, Any], path: str) -> list[str]:
    reference = field.get("$ref") or field.get("anyOf", [{}])[0].get("$ref")
    if reference is None:
        reference = field.get("items", {}).get("$ref")
        if reference is not None:
            path += "[]"
    paths = []
    if reference is not None:
        for name, inner in schema["$defs"][reference.rpartition("/")[2]]["properties"].items():
            paths += [f"{path}.{name}", *_paths(schema, inner, f"{path}.{name}")]
    return paths


if __name__ == "__main__":
    for file, text in made_files().items():
        file.write_text(text, encoding="utf-8")
