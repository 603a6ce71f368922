"""The schema takes every record and is strict about the rest."""

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mirror_audit.audit.record import Record
from mirror_audit.audit.schema import record_schema, schema_text
from mirror_audit.replay import replay
from tests.docs.examples import EXAMPLES
from tests.support import pgmsg
from tests.support.wrap import TcpTrace, write_pcap

SAMPLES = Path(__file__).resolve().parents[2] / "samples"

VALIDATOR = Draft202012Validator(record_schema())


def test_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(record_schema())

    assert json.loads(schema_text()) == record_schema()


def test_every_field_has_a_description() -> None:
    schema = record_schema()
    objects = [schema, *schema["$defs"].values()]
    fields = [field for one in objects for field in one["properties"].items()]

    assert len(fields) > 100
    assert [name for name, field in fields if not field.get("description") and name not in EXAMPLES] == []


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_all_is_required_and_nothing_else_allowed(example: dict[str, Any]) -> None:
    kind = example["kind"]
    VALIDATOR.validate(example)

    for name in example:
        assert not VALIDATOR.is_valid({key: value for key, value in example.items() if key != name}), name
    for name in example[kind]:
        body = {key: value for key, value in example[kind].items() if key != name}
        assert not VALIDATOR.is_valid(example | {kind: body}), name
    assert not VALIDATOR.is_valid(example | {"more": 1})
    assert not VALIDATOR.is_valid(example | {kind: example[kind] | {"more": 1}})
    other = "gap" if kind != "gap" else "undecodable"
    assert not VALIDATOR.is_valid(example | {other: EXAMPLES[other][other]}), "two bodies"


def check(records: Iterable[Record]) -> Counter[str]:
    """Every record is one; the first of each kind also pass the schema, which takes its time."""
    kinds: Counter[str] = Counter()
    for record in records:
        assert Record.from_json(record.to_json()) == record
        kinds[record.kind] += 1
        if kinds[record.kind] <= 20:
            VALIDATOR.validate(record.to_dict())
    return kinds


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.pcap")), ids=lambda path: path.stem)
def test_records_of_a_sample(path: Path) -> None:
    assert check(replay(path, auto_ports=True)).total() > 0


def test_records_of_a_statement_that_runs_on(tmp_path: Path) -> None:
    trace = TcpTrace()
    trace.open()
    trace.client(pgmsg.startup("app", "shop"))
    trace.server(pgmsg.login())
    trace.client(pgmsg.query("BEGIN; CALL slow()"))
    for _ in range(3):
        trace.wait(9_000_000)
        trace.server(pgmsg.notice("working"))
    trace.server(pgmsg.command_complete("BEGIN") + pgmsg.command_complete("CALL") + pgmsg.ready("T"))
    write_pcap(tmp_path / "x.pcap", trace.frames)

    kinds = check(replay(tmp_path / "x.pcap"))

    assert kinds["statement_progress"] >= 1
    assert (kinds["statement"], kinds["transaction_end"]) == (2, 1)


def edit(kind: str, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    record = copy.deepcopy(EXAMPLES[kind])
    change(record)
    return record


@pytest.mark.parametrize(
    "record",
    [
        edit("gap", lambda r: r.update(time="2026-11-23 05:54:29")),
        edit("gap", lambda r: r.update(schema_version="2.0")),
        edit("gap", lambda r: r.update(client_port=70000)),
        edit("gap", lambda r: r.update(vni=1 << 24)),
        edit("gap", lambda r: r["gap"].update(bytes=-1)),
        edit("gap", lambda r: r["gap"].update(direction="up")),
        edit("session_start", lambda r: r["session_start"].update(tls=True)),
        edit("session_start", lambda r: r["session_start"]["parameters"].update(user=None)),
        edit("statement", lambda r: r["statement"].update(text_sha256="abc")),
        edit("statement", lambda r: r["statement"]["parameters"][0].pop("sha256")),
        edit("statement", lambda r: r["statement"]["coverage"].update(reasons=[1])),
        edit("statement", lambda r: r["statement"].update({"class": "SELECT"})),
    ],
)
def test_strict(record: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(record)


def test_nulls_where_they_may_be() -> None:
    for name in ("text", "parameters", "class", "tables", "copy", "comment_tags", "sqlstate", "duration_us"):
        record = copy.deepcopy(EXAMPLES["statement"])
        record["statement"][name] = None
        VALIDATOR.validate(record)
