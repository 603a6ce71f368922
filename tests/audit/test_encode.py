"""Statement records keep their bounds: what is cut is counted, hashed and said."""

from hashlib import sha256

import pytest

from tests.audit.conversation import SELECTED, done, opened, records, talk
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

LONG = "select '" + "ä" * 200 + "'"


def test_long_text() -> None:
    found = records(talk((query(LONG), SELECTED + ready())), limits={"max_text_bytes": 101})
    (body,) = found.statements

    assert body["text_truncated"]
    assert LONG.startswith(body["text"])
    assert len(body["text"].encode()) == 100, "no character is cut in two"
    assert body["text_length"] == len(LONG.encode())
    assert body["text_sha256"] == sha256(LONG.encode()).hexdigest()
    assert found.counters["texts_truncated"] == 1


def test_text_that_just_fits() -> None:
    limit = len(LONG.encode())
    (body,) = records(talk((query(LONG), SELECTED + ready())), limits={"max_text_bytes": limit}).statements

    assert (body["text"], body["text_truncated"], body["text_sha256"]) == (LONG, False, None)


BATCH = parse("select $1, $2, $3") + bind(["x" * 100, "short", None]) + execute() + sync()
RESULT = parse_complete() + bind_complete() + done("SELECT 0")


def test_long_parameter() -> None:
    found = records(talk((BATCH, RESULT)), limits={"max_parameter_bytes": 10})
    long, short, null = found.statements[0]["parameters"]

    assert (long["value"], long["length"], long["truncated"]) == ("x" * 10, 100, True)
    assert long["sha256"] == sha256(b"x" * 100).hexdigest()
    assert (short["value"], short["truncated"], short["sha256"]) == ("short", False, None)
    assert (null["value"], null["length"], null["truncated"]) == (None, None, False)
    assert found.counters["parameters_truncated"] == 1


def test_many_parameters() -> None:
    (body,) = records(talk((BATCH, RESULT)), limits={"max_parameters": 2}).statements

    assert len(body["parameters"]) == 2
    assert body["parameter_count"] == 3


@pytest.mark.parametrize("count", [1, 5])
def test_requests_that_wait(count: int) -> None:
    """Past the limit they are told without their replies, and every one is told."""
    trace = opened()
    trace.client(b"".join(query(f"select {n}") for n in range(count)))
    trace.server((SELECTED + ready()) * count)
    found = records(trace, limits={"max_pending_requests": 2})

    assert found.columns("text") == [f"select {n}" for n in range(count)]
    assert bool(found.counters["outstanding_limit_hits"]) == (count > 2)
    if count == 1:
        assert found.columns("outcome") == ["ok"]
    else:
        assert "unknown" in found.columns("outcome")


def test_bytes_of_requests_that_wait() -> None:
    trace = opened()
    texts = [f"select '{n}{'x' * 3000}'" for n in range(10)]
    trace.client(b"".join(map(query, texts)))
    trace.server((SELECTED + ready()) * 10)
    found = records(trace, limits={"max_session_text_bytes": 8000})

    assert found.columns("text") == texts
    assert found.counters["outstanding_limit_hits"] > 0


def test_statements_that_wait_for_ready() -> None:
    trace = opened()
    trace.client((parse("select 1") + bind() + execute()) * 20 + sync())
    trace.server((parse_complete() + bind_complete() + command_complete("SELECT 0")) * 20 + ready())
    found = records(trace, limits={"max_finished_statements": 5})

    assert found.columns("outcome") == ["ok"] * 20
    assert found.counters["statements_emitted_early"] > 0


def test_prepared_statements() -> None:
    """The one not used for longest is forgotten, and its use says so."""
    trace = opened()
    for name in "abc":
        trace.client(parse(f"select '{name}'", name) + sync())
        trace.server(parse_complete() + ready())
    for name in "ca":
        trace.client(bind(name=name) + execute() + sync())
        trace.server(bind_complete() + done("SELECT 0"))
    found = records(trace, limits={"max_prepared_statements": 2})

    assert found.columns("text", "outcome") == [("select 'c'", "ok"), (None, "ok")]
    assert found.statements[1]["prepared_name"] == "a"
    assert found.statements[1]["coverage"]["reasons"] == ["prepared_statement_not_seen"]
    assert found.counters["prepared_evicted"] == 1


def test_portals() -> None:
    trace = opened()
    trace.client(query("begin"))
    trace.server(done("BEGIN", status="T"))
    trace.client(parse("select 1", "s") + b"".join(bind(portal=name, name="s") for name in "abc") + sync())
    trace.server(parse_complete() + bind_complete() * 3 + ready("T"))
    trace.client(execute("c") + execute("a") + sync())
    trace.server(command_complete("SELECT 0") + done("SELECT 0", status="T"))
    found = records(trace, limits={"max_portals": 2})

    assert found.columns("text", "portal_name")[1:] == [("select 1", "c"), (None, "a")]
    assert found.statements[2]["coverage"]["reasons"] == ["portal_not_seen"]
    assert found.counters["portals_evicted"] == 1


def test_detail_of_an_error_is_bounded() -> None:
    (body,) = records(talk((query("boom"), error("m" * 20_000, "42601") + ready()))).statements

    assert body["message"].startswith("mmm")
    assert len(body["message"]) <= 20_000
