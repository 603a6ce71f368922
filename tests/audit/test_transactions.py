"""Transactions: their numbers, the status around each statement, and how they ended."""

import pytest

from tests.audit.conversation import SELECTED, Turn, done, opened, records, talk
from tests.support.pgmsg import (
    bind,
    bind_complete,
    command_complete,
    error,
    execute,
    parse,
    parse_complete,
    query,
    ready,
    sync,
)

BEGIN: Turn = (query("begin"), done("BEGIN", status="T"))
INSERT: Turn = (query("insert into t values (1)"), done("INSERT 0 1", status="T"))
COMMIT: Turn = (query("commit"), done("COMMIT"))
ROLLBACK: Turn = (query("rollback"), done("ROLLBACK"))
SELECT: Turn = (query("select 1"), SELECTED + ready())
FAILS: Turn = (query("select 1/0"), error("division by zero", "22012") + ready("E"))
Step = tuple[str | None, str | None, int | None]

CASES: dict[str, tuple[list[Turn], list[Step], list[tuple[int, str, int]]]] = {
    "each its own": ([SELECT, SELECT], [("I", "I", 1), ("I", "I", 2)], []),
    "a block": (
        [SELECT, BEGIN, INSERT, COMMIT, SELECT],
        [("I", "I", 1), ("I", "T", 2), ("T", "T", 2), ("T", "I", 2), ("I", "I", 3)],
        [(2, "committed", 3)],
    ),
    "rolled back": (
        [BEGIN, INSERT, ROLLBACK],
        [("I", "T", 1), ("T", "T", 1), ("T", "I", 1)],
        [(1, "rolled_back", 3)],
    ),
    "failed, so that COMMIT rolls back": (
        [BEGIN, FAILS, (query("commit"), done("ROLLBACK"))],
        [("I", "T", 1), ("T", "E", 1), ("E", "I", 1)],
        [(1, "rolled_back", 3)],
    ),
    "failed, then back to a savepoint": (
        [
            BEGIN,
            (query("savepoint a"), done("SAVEPOINT", status="T")),
            FAILS,
            (query("rollback to a"), done("ROLLBACK", status="T")),
            COMMIT,
        ],
        [("I", "T", 1), ("T", "T", 1), ("T", "E", 1), ("E", "T", 1), ("T", "I", 1)],
        [(1, "committed", 5)],
    ),
    "in one Query": (
        [(query("begin; insert into t values (1); commit"), done("BEGIN", "INSERT 0 1", "COMMIT"))],
        [("I", "T", 1), ("T", "T", 1), ("T", "I", 1)],
        [(1, "committed", 3)],
    ),
    "chained": (
        [
            BEGIN,
            (query("commit and chain"), done("COMMIT", status="T")),
            INSERT,
            (query("rollback and chain"), done("ROLLBACK", status="T")),
            COMMIT,
        ],
        [("I", "T", 1), ("T", "T", 1), ("T", "T", 2), ("T", "T", 2), ("T", "I", 3)],
        [(1, "committed", 2), (2, "rolled_back", 2), (3, "committed", 1)],
    ),
    "before one Sync": (
        [
            (
                b"".join(parse(text) + bind() + execute() for text in ("begin", "select 1", "commit"))
                + sync(),
                b"".join(
                    parse_complete() + bind_complete() + command_complete(tag)
                    for tag in ("BEGIN", "SELECT 1", "COMMIT")
                )
                + ready(),
            )
        ],
        [("I", "T", 1), ("T", "T", 1), ("T", "I", 1)],
        [(1, "committed", 3)],
    ),
    "left open at the end": (
        [BEGIN, INSERT],
        [("I", "T", 1), ("T", "T", 1)],
        [(1, "rolled_back", 2)],
    ),
    "prepared for two phases": (
        [BEGIN, (query("prepare transaction 'x'"), done("PREPARE TRANSACTION"))],
        [("I", "T", 1), ("T", "I", 1)],
        [(1, "unknown", 2)],
    ),
}


@pytest.mark.parametrize(("turns", "steps", "ends"), CASES.values(), ids=CASES)
def test_transactions(turns: list[Turn], steps: list[Step], ends: list[tuple[int, str, int]]) -> None:
    found = records(talk(*turns))

    assert found.columns("transaction_before", "transaction_after", "transaction") == steps
    shown = [
        (one["transaction"], one["outcome"], one["statements"]) for one in found.bodies("transaction_end")
    ]
    assert shown == ends
    assert found[-1]["session_end"]["transactions"] == max(step[2] or 0 for step in steps)


def test_statements_of_one_query_are_undone_together() -> None:
    """Without BEGIN, too: the one that was "ok" did not last."""
    found = records(
        talk(
            (
                query("insert into t values (1); select 1/0"),
                command_complete("INSERT 0 1") + error("division by zero", "22012") + ready(),
            )
        )
    )

    assert found.columns("outcome") == ["ok", "error"]
    (end,) = found.bodies("transaction_end")
    assert end["outcome"] == "rolled_back"


def test_the_end_of_the_capture_is_no_end_of_the_transaction() -> None:
    trace = opened()
    for request, reply in (BEGIN, INSERT):
        trace.client(request)
        trace.server(reply)

    (end,) = records(trace).bodies("transaction_end")
    assert end["outcome"] == "unknown"
