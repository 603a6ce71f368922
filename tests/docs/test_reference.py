"""What docs/ says of the record and of the command line is what the code does."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from jsonschema import Draft202012Validator

from mirror_audit.audit.record import Kind, Record
from mirror_audit.audit.schema import record_schema
from mirror_audit.audit.statement import REASON_NAMES
from tests.docs.examples import EXAMPLES
from tests.docs.generate import DOCS, commands, field_paths, made_files

VALIDATOR = Draft202012Validator(record_schema())


@pytest.mark.parametrize("path", ["record.schema.json", "record.md", "cli.md"])
def test_made_parts_are_current(path: str) -> None:
    wanted = made_files()[DOCS / path]

    assert (DOCS / path).read_text(encoding="utf-8") == wanted, "python -m tests.docs.generate"


def test_there_is_an_example_of_each_kind() -> None:
    assert set(EXAMPLES) == set(get_args(Kind))


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_example_fits_the_schema(example: dict[str, Any]) -> None:
    VALIDATOR.validate(example)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_example_is_a_record(example: dict[str, Any]) -> None:
    record = Record.from_json(json.dumps(example).encode())

    assert record.to_dict() == example
    assert list(example[example["kind"]]) == list(
        record_schema()["$defs"][type(record.body).__name__]["properties"]
    ), "the fields of an example stand in the order of the record"


@pytest.mark.parametrize("path", field_paths())
def test_field_is_mapped_and_explained(path: str) -> None:
    mapping = (DOCS / "mapping.md").read_text(encoding="utf-8")
    explained = (DOCS / "record.md").read_text(encoding="utf-8")

    assert f"| `{path}` |" in mapping
    assert f"| `{path.rpartition('.')[2]}` |" in explained


def test_mapping_names_no_field_that_does_not_exist() -> None:
    mapping = (DOCS / "mapping.md").read_text(encoding="utf-8").partition("## Envelope")[2]

    assert re.findall(r"^\| `(.+?)` \|", mapping, re.MULTILINE) == field_paths()


@pytest.mark.parametrize("name", commands())
def test_command_and_its_options_are_documented(name: str) -> None:
    command = commands()[name]
    text = (DOCS / "cli.md").read_text(encoding="utf-8")

    assert f"## `{name}`" in text
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name}: {parameter.name} has no help"
            # Beyond the generated help: each option has its own words.
            assert f"- `{parameter.opts[-1]}`" in text, (
                f"{parameter.opts[-1]} is not explained in docs/cli.md"
            )


def test_reasons_are_explained() -> None:
    text = (DOCS / "record.md").read_text(encoding="utf-8")

    for _, name in REASON_NAMES:
        assert f"| `{name.decode()}` |" in text


def test_links_between_pages_lead_somewhere() -> None:
    for page in ("record.md", "mapping.md", "cli.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (DOCS / target).exists() or Path(DOCS.parent / target).exists(), f"{page}: {target}"
