"""What stands in front of every record: its id, its time, and the order of its members."""

import json
from collections.abc import Iterable

import pytest

from mirror_audit.audit.envelope import KIND_GAP, KIND_NAMES, KIND_STATEMENT, RecordWriter, flow_hash
from mirror_audit.audit.schema import record_schema
from mirror_audit.counters import Counters
from tests.audit.conversation import SELECTED, Records, done, opened, records
from tests.support.pgmsg import query, ready
from tests.support.wrap import Frame, TcpTrace, data_indices, drop

FLOW = b"0123456789abcdef"


def session(port: int = 40000) -> TcpTrace:
    trace = opened(port)
    for text in ("begin", "select 1; select 2", "commit", "select 3"):
        trace.client(query(text))
        if text.startswith("select"):
            trace.server(done(*["SELECT 1"] * len(text.split(";")), status="T" if ";" in text else "I"))
        else:
            trace.server(done(text.upper(), status="T" if text == "begin" else "I"))
    trace.close()
    return trace


def ids(frames: Iterable[Frame]) -> dict[str, str | None]:
    """{id: text} of the statements."""
    found = records(frames)
    return dict(zip(found.ids("statement"), found.columns("text"), strict=True))


def test_ids_are_unique() -> None:
    found = records([*session(40000).frames, *session(40001).frames])

    assert len(found) == 16
    assert len(set(found.ids())) == len(found)
    assert {len(one) for one in found.ids()} == {46}


def test_ids_do_not_depend_on_the_start_of_the_capture() -> None:
    frames = session().frames
    whole = ids(frames)

    for index in data_indices(frames, "client")[1:-1]:
        part = ids(frames[index:])
        told = {key: text for key, text in part.items() if text}
        assert told
        assert told.items() <= whole.items()


def test_ids_do_not_depend_on_other_connections() -> None:
    one, other = session(40000).frames, session(40001).frames

    assert (ids(one) | ids(other)) == ids([*one, *other])


def test_ids_do_not_depend_on_losses() -> None:
    frames = session().frames
    whole = ids(frames)

    for index in data_indices(frames, "server")[1:]:
        assert ids(drop(frames, index)) == whole


def test_members_are_in_the_order_of_the_schema() -> None:
    schema = record_schema()
    envelope = [name for name in schema["properties"] if name.encode() not in KIND_NAMES]
    found: Records = records(session())

    for one in found:
        assert list(one) == [*envelope, one["kind"]]
        assert one["schema_version"] == "1.0"
        assert (one["collector"], one["stream"], one["sequence"]) == (None, None, None)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_790_000_000_123_456, "2026-09-21T14:13:20.123456Z"),
        (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        (253_402_300_800_000_000, "9999-12-31T23:59:59.000000Z"),
        (4_294_967_295_999_999, "2106-02-07T06:28:15.999999Z"),
    ],
)
def test_time(time: int, expected: str) -> None:
    lines: list[bytes] = []
    writer = RecordWriter(lines.append, Counters())
    writer.begin(KIND_GAP, FLOW, time, 2, 3, b'"session_id":null')
    writer.end()
    writer.flush()

    assert json.loads(lines[0])["time"] == expected


def test_lines_come_in_batches() -> None:
    lines: list[bytes] = []
    counters = Counters()
    writer = RecordWriter(lines.append, counters)
    for number in range(3_000):
        writer.begin(KIND_STATEMENT, FLOW, number, 2, 3, b'"session_id":null').write(b'"x":0')
        writer.end()
    writer.flush()
    writer.flush()

    assert 1 < len(lines) < 10
    assert all(batch.endswith(b"}}\n") for batch in lines)
    assert b"".join(lines).count(b"\n") == 3_000 == counters.records


def test_flow_hash_tells_apart() -> None:
    a, b = b"\x0a\0\0\1", b"\x0a\0\0\2"
    hashes = [
        flow_hash("default", a, 1, b, 2),
        flow_hash("default", b, 2, a, 1),
        flow_hash("default", a, 2, b, 1),
        flow_hash("vni-7", a, 1, b, 2),
        flow_hash("default", a * 4, 1, b * 4, 2),
    ]

    assert len(set(hashes)) == len(hashes)
    assert {len(one) for one in hashes} == {16}
    assert flow_hash("default", a, 1, b, 2) == hashes[0]


def test_a_query_and_a_second_copy_of_it_are_two() -> None:
    trace = opened()
    for _ in range(2):
        trace.client(query("select 1"))
        trace.server(SELECTED + ready())

    assert len(ids(trace.frames)) == 2
