"""Filters choose records, and pass on the very lines."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mirror_audit.audit.record import Record
from mirror_audit.sinks import filters
from tests.docs.examples import EXAMPLES, line

EVERY = [line(kind) for kind in EXAMPLES]


class Collect:
    """A sink that keeps its batches."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.closed = False

    def write(self, batch: bytes) -> None:
        self.batches.append(batch)

    def close(self) -> None:
        self.closed = True


def passed(predicate: filters.Predicate, lines: list[bytes] = EVERY) -> list[str]:
    return [record.kind for record in map(Record, lines) if predicate(record)]


def test_by_kind() -> None:
    assert passed(filters.by_kind({"gap", "statement"})) == ["statement", "gap"]


def test_by_user_and_database() -> None:
    other = line("statement", user="eve", database="books")
    unknown = line("statement", user=None, database=None)

    assert passed(filters.by_user({"app"})) == list(EXAMPLES)
    assert passed(filters.by_user({"eve"}), [other, unknown, line("statement")]) == ["statement"]
    assert passed(filters.by_database({"books", "x"}), [other, unknown, line("statement")]) == ["statement"]


def test_cancel_request_belongs_to_its_target() -> None:
    cancel = line("cancel_request", user=None, database=None)

    assert passed(filters.by_user({"app"}), [cancel]) == ["cancel_request"]
    assert passed(filters.by_database({"shop"}), [cancel]) == ["cancel_request"]
    assert passed(filters.by_user({"eve"}), [cancel]) == []
    assert passed(filters.by_database({"books"}), [cancel]) == []


def test_by_time() -> None:
    at = datetime(2026, 11, 23, 5, 54, 29, 123456, tzinfo=UTC)
    step = timedelta(microseconds=1)
    gap = [line("gap")]

    assert passed(filters.by_time(at, None), gap) == ["gap"]
    assert passed(filters.by_time(at + step, None), gap) == []
    assert passed(filters.by_time(None, at), gap) == [], "the end is excluded"
    assert passed(filters.by_time(at, at + step), gap) == ["gap"]
    berlin = timezone(timedelta(hours=1))
    assert passed(filters.by_time(datetime(2026, 11, 23, 6, 54, 29, tzinfo=berlin), None), gap) == ["gap"]


@pytest.mark.parametrize(
    ("text", "is_error"),
    [
        (line("statement"), False),
        (line("statement", body={"outcome": "error"}), True),
        (line("statement", body={"outcome": "skipped"}), False),
        (line("login_failed"), True),
        (line("session_end"), False),
        (line("session_end", body={"sqlstate": "57P01"}), True),
        (line("gap"), False),
    ],
)
def test_errors_only(text: bytes, is_error: bool) -> None:
    assert filters.errors_only(Record(text)) is is_error


@pytest.mark.parametrize(
    ("text", "pattern", "kinds"),
    [
        (line("statement"), "ORDERS", []),
        (line("statement"), "(?i)ORDERS", ["statement"]),
        (line("statement", body={"text": None}), "orders", []),
        (line("statement", body={"text": "EXECUTE p", "prepared_text": "SELECT 1"}), "SEL", ["statement"]),
        (line("statement", body={"message": "no such table"}), "^no such", ["statement"]),
        (line("statement_progress"), "COPY", ["statement_progress"]),
        (line("login_failed"), "password", ["login_failed"]),
        (line("session_end", body={"message": "shutting down"}), "down", ["session_end"]),
        (line("gap"), "", []),
    ],
)
def test_by_text(text: bytes, pattern: str, kinds: list[str]) -> None:
    assert passed(filters.by_text(re.compile(pattern)), [text]) == kinds


def test_sink_passes_on_what_satisfies_all() -> None:
    target = Collect()
    sink = filters.FilterSink([filters.by_kind({"gap", "statement"}), filters.by_user({"eve"})], target)
    wanted = [line("gap", user="eve"), line("statement", user="eve")]

    sink.write(wanted[0] + line("gap") + wanted[1] + line("login_failed", user="eve"))
    sink.write(line("gap"))
    sink.close()

    assert target.batches == [b"".join(wanted)]
    assert target.closed
