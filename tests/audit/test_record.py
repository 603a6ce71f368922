"""`Record`: a lazy view of a line that refuses what is not a record."""

import json
import pickle
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.audit import bodies
from mirror_audit.audit.record import Envelope, Kind, Record
from mirror_audit.errors import RecordError
from tests.docs.examples import EXAMPLES, line


def test_kinds_and_bodies_are_the_same() -> None:
    assert get_args(Kind) == tuple(bodies.BODIES)
    assert set(bodies.BODIES.values()) == set(get_args(bodies.Body))


def test_statement_is_typed() -> None:
    record = Record.from_json(line("statement"))

    statement = record.statement
    assert statement is not None
    assert statement is record.body
    assert statement.class_ == "WRITE"
    assert statement.parameters is not None
    assert [parameter.value for parameter in statement.parameters] == ["paid", "1042"]
    assert statement.tables == (bodies.Table(None, "orders"),)
    assert statement.coverage == bodies.Coverage(complete=True, bytes_lost=0, reasons=())
    assert record.time == datetime(2026, 11, 23, 5, 54, 29, 123456, tzinfo=UTC)
    assert (record.user, record.database, record.kind) == ("app", "shop", "statement")
    assert record.envelope.network == "vni-7"


@pytest.mark.parametrize("kind", EXAMPLES)
def test_body_is_of_the_kind(kind: str) -> None:
    record = Record.from_json(line(kind))

    assert type(record.body) is bodies.BODIES[kind]
    assert (record.statement is not None) == (kind == "statement")


def test_line_is_kept_to_the_byte() -> None:
    text = line("gap").replace(b":", b" : ", 3)
    record = Record.from_json(text)

    assert record.to_json() == text.removesuffix(b"\n")
    assert record.to_dict() == EXAMPLES["gap"]
    assert record == Record(text)
    assert hash(record) == hash(Record(text))
    assert record != Record(line("gap"))
    assert record != text
    assert pickle.loads(pickle.dumps(record)) == record
    assert "gap" in repr(record)


def test_dict_is_the_callers_own() -> None:
    record = Record.from_json(line("gap"))
    record.to_dict()["gap"]["bytes"] = 0

    assert record.to_dict() == EXAMPLES["gap"]


def test_lazy_until_an_attribute_is_asked_for() -> None:
    record = Record(b"no record\n")

    assert record.to_json() == b"no record"
    with pytest.raises(RecordError, match="not a JSON object"):
        _ = record.kind


def test_fields_of_a_later_minor_version_are_ignored() -> None:
    record = Record.from_json(line("gap", body={"new": 1}, schema_version="1.7", other=[{}]))

    assert record.envelope.schema_version == "1.7"
    assert isinstance(record.body, bodies.Gap)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not a JSON object"),
        (b"{", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"\xff{}", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b"{}", "schema_version None is not known"),
        (line("gap", schema_version="2.0"), "schema_version '2.0' is not known"),
        (line("gap", schema_version="10.0"), "schema_version '10.0' is not known"),
        (line("gap", kind="sap"), "kind: 'sap' does not fit"),
        (line("gap", kind="statement"), "a record of kind statement has no statement"),
        (line("gap", user=7), "user: 7 does not fit"),
        (line("gap", vni=True), "vni: True does not fit"),
        (line("gap", time=None), "time: None does not fit"),
        (line("gap", body={"bytes": "1"}), "gap.bytes: '1' does not fit"),
        (line("gap", body={"bytes": 1.0}), "gap.bytes: 1.0 does not fit"),
        (line("gap", body={"recovered": 1}), "gap.recovered: 1 does not fit"),
        (line("gap", body={"direction": "up"}), "gap.direction: 'up' does not fit"),
        (line("session_start", body={"tls": 0}), "session_start.tls: 0 does not fit"),
        (line("session_start", body={"parameters": {"a": 1}}), "parameters: {'a': 1} does not fit"),
        (line("session_start", body={"coverage": None}), "session_start.coverage: None does not fit"),
        (line("statement", body={"coverage": {"complete": True}}), "coverage.bytes_lost is missing"),
        (line("statement", body={"tables": "orders"}), "statement.tables: 'orders' does not fit"),
        (line("statement", body={"tables": [{"name": "x"}]}), r"statement.tables\[0\].schema is missing"),
        (line("statement", body={"tables": [7]}), r"statement.tables\[0\]: 7 does not fit"),
    ],
)
def test_refused(text: bytes, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        Record.from_json(text)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_field_is_needed(kind: str) -> None:
    for name in Envelope.__dataclass_fields__:
        record = {key: value for key, value in EXAMPLES[kind].items() if key != name}
        with pytest.raises(RecordError, match=name):
            Record.from_json(json.dumps(record).encode())
    for name in EXAMPLES[kind][kind]:
        body = {key: value for key, value in EXAMPLES[kind][kind].items() if key != name}
        with pytest.raises(RecordError, match=f"{kind}.{name} is missing"):
            Record.from_json(json.dumps(EXAMPLES[kind] | {kind: body}).encode())


def test_time_that_is_none() -> None:
    record = Record.from_json(line("gap", time="2026-13-01T00:00:00.000000Z"))

    with pytest.raises(RecordError, match="is not a UTC time"):
        _ = record.time


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(kind=st.sampled_from(sorted(EXAMPLES)), data=st.data(), value=JSON)
def test_any_value_in_any_field_fits_or_is_refused(kind: str, data: st.DataObject, value: Any) -> None:
    name = data.draw(st.sampled_from(sorted(EXAMPLES[kind][kind])))
    text = line(kind, body={name: value}) if data.draw(st.booleans()) else line(kind, **{kind: {name: value}})
    try:
        record = Record.from_json(text)
    except RecordError:
        return

    assert json.loads(text)[kind][name] == record.to_dict()[kind][name]


@given(st.binary())
def test_any_bytes_are_refused(text: bytes) -> None:
    with pytest.raises(RecordError):
        Record.from_json(text)
