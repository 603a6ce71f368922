"""What the server sends between and behind results: COPY, notices, status reports."""

from typing import Any

import pytest

from tests.audit.conversation import SELECTED, Turn, done, records, talk
from tests.support.pgmsg import (
    bind,
    bind_complete,
    command_complete,
    copy_data,
    copy_done,
    copy_fail,
    copy_in_response,
    copy_out_response,
    data_row,
    error,
    execute,
    notice,
    notification,
    parameter_status,
    parse,
    parse_complete,
    query,
    ready,
    sync,
)

LINES = copy_data("1\ta\n") + copy_data("2\tb\n")
EXTENDED = parse("copy t from stdin") + bind() + execute()

COPIES: dict[str, tuple[list[Turn], str, dict[str, Any]]] = {
    "in": (
        [(query("copy t from stdin"), copy_in_response(2)), (LINES + copy_done(), done("COPY 2"))],
        "ok",
        {"direction": "in", "rows": 2, "bytes": 8},
    ),
    "in, sent before the server asks": (
        [(query("copy t from stdin") + LINES + copy_done(), copy_in_response(2) + done("COPY 2"))],
        "ok",
        {"direction": "in", "rows": 2, "bytes": 8},
    ),
    "in, given up by the client": (
        [
            (query("copy t from stdin"), copy_in_response(2)),
            (LINES + copy_fail("no more"), error("COPY failed", "57014") + ready()),
        ],
        "error",
        {"direction": "in", "rows": 2, "bytes": 8},
    ),
    "out": (
        [(query("copy t to stdout"), copy_out_response(2) + LINES + copy_done() + done("COPY 2"))],
        "ok",
        {"direction": "out", "rows": 2, "bytes": 8},
    ),
    "extended, with a Sync before the data": (
        [
            (EXTENDED + sync(), parse_complete() + bind_complete() + copy_in_response(2)),
            (LINES + copy_done() + sync(), done("COPY 2")),
        ],
        "ok",
        {"direction": "in", "rows": 2, "bytes": 8},
    ),
    "extended": (
        [
            (EXTENDED, parse_complete() + bind_complete() + copy_in_response(2)),
            (LINES + copy_done() + sync(), done("COPY 2")),
        ],
        "ok",
        {"direction": "in", "rows": 2, "bytes": 8},
    ),
}


@pytest.mark.parametrize(("turns", "outcome", "copy"), COPIES.values(), ids=COPIES)
def test_copy(turns: list[Turn], outcome: str, copy: dict[str, Any]) -> None:
    found = records(talk(*turns, (query("select 1"), SELECTED + ready())))

    assert found.columns("outcome", "copy") == [(outcome, copy), ("ok", None)]


@pytest.mark.parametrize(
    "extra",
    [
        notice("careful"),
        notification("channel", "payload"),
        parameter_status("TimeZone", "UTC"),
        notice("one") + notification("two") + parameter_status("application_name", "three"),
    ],
    ids=["notice", "notification", "status", "all"],
)
def test_messages_that_may_come_at_any_time(extra: bytes) -> None:
    batch = parse("select 1", "s") + bind(name="s") + execute() + sync()
    replies = (parse_complete(), bind_complete(), data_row("1"), command_complete("SELECT 1"), ready())
    found = records(
        talk(
            (b"", extra),
            (query("select 1; select 2"), extra + SELECTED + extra + SELECTED + extra + ready() + extra),
            (batch, extra.join(replies)),
        )
    )

    assert found.columns("outcome", "command_tag", "rows") == [("ok", "SELECT 1", 1)] * 3
    assert all(one["complete"] for one in found.columns("coverage"))
    assert {one["kind"] for one in found} == {"session_start", "statement", "session_end"}


def test_error_fields() -> None:
    fields = {"D": "Key (id)=(1) already exists.", "n": "t_pkey"}
    (body,) = records(
        talk((query("insert into t values (1)"), error("duplicate key", "23505", **fields) + ready()))
    ).statements

    names = ("outcome", "sqlstate", "severity", "message", "detail", "command_tag")
    assert [body[name] for name in names] == [
        "error",
        "23505",
        "ERROR",
        "duplicate key",
        "Key (id)=(1) already exists.",
        None,
    ]


def test_more_results_than_statements() -> None:
    """A server that answers with more than the text can explain is told, not believed."""
    found = records(talk((query("select 1"), SELECTED + done("DROP TABLE"))))

    assert any("more_results_than_statements" in one["reasons"] for one in found.columns("coverage"))
