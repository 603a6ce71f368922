"""Requests and replies become statements: which text, which values, which outcome."""

from typing import Any

import pytest

from tests.audit.conversation import SELECTED, Turn, done, records, talk
from tests.support.pgmsg import (
    bind,
    bind_complete,
    close,
    close_complete,
    command_complete,
    data_row,
    describe,
    empty_query_response,
    error,
    execute,
    flush,
    function_call,
    function_call_response,
    no_data,
    parameter_description,
    parse,
    parse_complete,
    portal_suspended,
    query,
    ready,
    row_description,
    sync,
)

TAKEN = error("prepared statement exists", "42P05")
PREPARED = parse_complete() + ready()
RUN = bind_complete() + data_row("1") + command_complete("SELECT 1") + ready()


def run(name: str = "", portal: str = "", values: tuple[str | None, ...] = ()) -> bytes:
    return bind(values, portal=portal, name=name) + execute(portal) + sync()


@pytest.mark.parametrize(
    ("text", "reply", "expected"),
    [
        ("select 1", SELECTED + ready(), [("select 1", "ok", "SELECT 1", 1)]),
        ("", empty_query_response() + ready(), [("", "ok", None, 0)]),
        (";;", empty_query_response() + ready(), [(";;", "ok", None, 0)]),
        (
            "insert into t values (1); select 1;",
            command_complete("INSERT 0 1") + SELECTED + ready(),
            [("insert into t values (1)", "ok", "INSERT 0 1", 1), ("select 1", "ok", "SELECT 1", 1)],
        ),
        (
            "select ';'; delete from t",
            SELECTED + done("DELETE 7"),
            [("select ';'", "ok", "SELECT 1", 1), ("delete from t", "ok", "DELETE 7", 7)],
        ),
        (
            "select 1; boom; drop table t; select 2",
            SELECTED + error("syntax", "42601") + ready(),
            [
                ("select 1", "ok", "SELECT 1", 1),
                ("boom", "error", None, 0),
                ("drop table t", "skipped", None, 0),
                ("select 2", "skipped", None, 0),
            ],
        ),
        ("create table t()", done("CREATE TABLE"), [("create table t()", "ok", "CREATE TABLE", 0)]),
    ],
)
def test_simple(text: str, reply: bytes, expected: list[Any]) -> None:
    found = records(talk((query(text), reply)))

    rows = found.columns("text", "outcome", "command_tag", "rows")
    assert [(a.strip(), b, c or None, d or 0) for a, b, c, d in rows] == expected
    assert found.columns("protocol") == ["simple"] * len(expected)
    assert all(one["complete"] for one in found.columns("coverage"))


EXTENDED: dict[str, tuple[list[Turn], list[tuple[str | None, str]]]] = {
    "unnamed": (
        [(parse("select $1") + run(values=("1",)), parse_complete() + RUN)],
        [("select $1", "ok")],
    ),
    "named, used again": (
        [(parse("select 1", "s") + sync(), PREPARED), (run("s"), RUN), (run("s", "p"), RUN)],
        [("select 1", "ok"), ("select 1", "ok")],
    ),
    "several Executes before one Sync": (
        [
            (
                b"".join(parse(text) + bind() + execute() for text in ("select 1", "delete from t")) + sync(),
                parse_complete()
                + bind_complete()
                + command_complete("SELECT 1")
                + parse_complete()
                + bind_complete()
                + done("DELETE 2"),
            )
        ],
        [("select 1", "ok"), ("delete from t", "ok")],
    ),
    "pipelined": (
        [
            (query("select 1") + parse("select 2") + run() + query("select 3"), b""),
            (b"", SELECTED + ready() + parse_complete() + RUN + SELECTED + ready()),
        ],
        [("select 1", "ok"), ("select 2", "ok"), ("select 3", "ok")],
    ),
    "Flush and Describe between": (
        [
            (parse("select 1", "s") + describe("s", "S") + flush(), b""),
            (b"", parse_complete() + parameter_description() + row_description()),
            (run("s"), RUN),
        ],
        [("select 1", "ok")],
    ),
    "an error in Parse": (
        [
            (parse("boom") + run() + query("select 2"), error("syntax", "42601") + ready()),
            (b"", SELECTED + ready()),
        ],
        [("boom", "error"), ("select 2", "ok")],
    ),
    "an error in Bind, and what is behind it": (
        [
            (
                parse("select $1::int") + bind(["x"]) + execute() + parse("select 2") + run(),
                parse_complete() + error("invalid input", "22P02") + ready(),
            )
        ],
        [("select $1::int", "error"), ("select 2", "skipped")],
    ),
    "an error in Execute, and what is behind it": (
        [
            (
                parse("select 1/0") + bind() + execute() + parse("select 2") + run(),
                parse_complete() + bind_complete() + error("division by zero", "22012") + ready(),
            ),
            (query("select 3"), SELECTED + ready()),
        ],
        [("select 1/0", "error"), ("select 2", "skipped"), ("select 3", "ok")],
    ),
    "an error at the commit": (
        [
            (
                parse("insert into t values (1)") + run(),
                parse_complete()
                + bind_complete()
                + command_complete("INSERT 0 1")
                + error("deferred constraint", "23503")
                + ready(),
            )
        ],
        [("insert into t values (1)", "error")],
    ),
    "rows in portions": (
        [
            (
                parse("select a") + bind() + execute(limit=1) + flush(),
                parse_complete() + bind_complete() + data_row("1") + portal_suspended(),
            ),
            (execute() + sync(), data_row("2") + done("SELECT 1")),
        ],
        [("select a", "suspended"), ("select a", "ok")],
    ),
    "a Parse that fails keeps the statement of that name": (
        [
            (parse("select 'old'", "s") + sync(), PREPARED),
            (parse("select 'new'", "s") + sync(), TAKEN + ready()),
            (run("s"), RUN),
        ],
        [("select 'new'", "error"), ("select 'old'", "ok")],
    ),
    "Close, then a new statement of that name": (
        [
            (parse("select 'old'", "s") + sync(), PREPARED),
            (
                close("s") + parse("select 'new'", "s") + sync(),
                close_complete() + parse_complete() + ready(),
            ),
            (run("s"), RUN),
        ],
        [("select 'new'", "ok")],
    ),
    "the empty query": (
        [(parse("") + run(), parse_complete() + bind_complete() + empty_query_response() + ready())],
        [("", "ok")],
    ),
}


@pytest.mark.parametrize(("turns", "expected"), EXTENDED.values(), ids=EXTENDED)
def test_extended(turns: list[Turn], expected: list[tuple[str, str]]) -> None:
    found = records(talk(*turns))

    assert found.columns("text", "outcome") == expected
    assert all(one["complete"] for one in found.columns("coverage"))


def forgotten(text: str, tag: str) -> list[Turn]:
    """A prepared statement that goes away by this SQL, and a use of its name."""
    return [
        (parse("select 'old'", "s") + sync(), PREPARED),
        (query(text), done(tag)),
        (run("s"), error("unknown", "26000") + ready()),
    ]


@pytest.mark.parametrize(
    "turns",
    [
        forgotten("deallocate s", "DEALLOCATE"),
        forgotten("deallocate all", "DEALLOCATE ALL"),
        forgotten("discard all", "DISCARD ALL"),
        [(run("never"), error("unknown", "26000") + ready())],
        [(execute("never") + sync(), error("unknown", "34000") + ready())],
        [
            (parse("select 1", "s") + close("s") + run("s"), b""),
            (b"", PREPARED[:5] + close_complete() + TAKEN),
        ],
    ],
)
def test_name_that_means_nothing(turns: list[Turn]) -> None:
    last = records(talk(*turns)).statements[-1]

    assert last["text"] is None
    assert last["outcome"] == "error"
    assert not last["coverage"]["complete"]


def test_sql_prepare_and_execute() -> None:
    found = records(
        talk(
            (query("prepare q as select * from secrets"), done("PREPARE")),
            (query("execute q"), SELECTED + ready()),
            (parse("execute q") + run(), parse_complete() + RUN),
            (query("deallocate q"), done("DEALLOCATE")),
            (query("execute q"), error("unknown", "26000") + ready()),
        )
    )

    behind = "select * from secrets"
    assert [one and one.strip() for one in found.columns("prepared_text")] == [
        None,
        behind,
        behind,
        None,
        None,
    ]


@pytest.mark.parametrize(
    "gone",
    [
        ("close c", "CLOSE CURSOR"),
        ("close all", "CLOSE CURSOR ALL"),
        ("commit; begin", "COMMIT", "BEGIN"),
    ],
)
def test_cursor_takes_a_portals_name(gone: tuple[str, ...]) -> None:
    """What Execute runs is what the name means now, not what was once bound to it."""
    text, *tags = gone
    found = records(
        talk(
            (query("begin"), done("BEGIN", status="T")),
            (
                parse("select 'harmless'", "s") + bind(portal="c", name="s") + sync(),
                parse_complete() + bind_complete() + ready("T"),
            ),
            (
                query(f"{text}; declare c cursor for select * from secrets"),
                done(*tags, "DECLARE CURSOR", status="T"),
            ),
            (execute("c") + sync(), data_row("x") + done("SELECT 1", status="T")),
        )
    )

    assert "secrets" in found.statements[-1]["text"]
    assert found.statements[-1]["portal_name"] == "c"


def test_parameters() -> None:
    values = [b"\0\0\0\7", b"abc", None]
    found = records(
        talk(
            (
                parse("select $1, $2, $3", "s", [23, 25, 0]) + describe("s", "S") + sync(),
                parse_complete() + parameter_description(23, 25, 1043) + no_data() + ready(),
            ),
            (bind(values, name="s", formats=[1, 0, 0]) + execute() + sync(), RUN),
        )
    )

    (body,) = found.statements
    assert body["parameter_count"] == 3
    shown = [(one["type"], one["format"], one["value"], one["length"]) for one in body["parameters"]]
    assert shown == [("int4", "binary", "7", 4), ("text", "text", "abc", 3), ("varchar", "text", None, None)]


def test_bind_that_cannot_be_read() -> None:
    broken = bytearray(bind(["abc"]))
    broken[-9:-5] = (0x7FFFFFFF).to_bytes(4, "big")
    found = records(
        talk(
            (
                parse("select $1") + bytes(broken) + execute() + sync(),
                parse_complete() + error("invalid message format", "08P01") + ready(),
            ),
            (query("select 2"), SELECTED + ready()),
        )
    )

    assert found.columns("text", "outcome")[-1] == ("select 2", "ok")
    assert found.columns("outcome")[0] == "error"
    assert not found.columns("coverage")[0]["complete"]


def test_function_call() -> None:
    (body,) = records(talk((function_call(1598), function_call_response("0.5") + ready()))).statements

    assert (body["protocol"], body["outcome"], body["class"]) == ("function_call", "ok", "FUNCTION")
