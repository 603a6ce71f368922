"""Replication connections: their commands, and streams that may go on for days."""

import pytest

from mirror_audit.audit.replication import is_replication_command, mode_and_slot
from tests.audit.conversation import SELECTED, done, opened, records
from tests.support.pgmsg import copy_both_response, copy_data, copy_done, error, query, ready

START = "START_REPLICATION SLOT \"s1\" LOGICAL 0/16B3748 (proto_version '1')"


def test_stream_that_ends() -> None:
    trace = opened(replication="database")
    trace.client(query(START))
    trace.server(copy_both_response() + copy_data("w" + "x" * 99) + copy_data("k" + "x" * 17))
    trace.client(copy_data("r" + "\0" * 33) + copy_done())
    trace.server(copy_done() + done("COPY 0"))
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())
    found = records(trace)
    begin, end = found.bodies("replication")

    assert found[0]["session_start"]["replication"] == "database"
    assert (begin["command"], begin["mode"], begin["slot"], begin["ended"]) == (START, "logical", "s1", False)
    assert (end["command"], end["mode"], end["slot"], end["ended"]) == (START, "logical", "s1", True)
    assert (begin["bytes"], end["bytes"] >= 118) == (0, True)
    assert len(set(found.ids())) == len(found)
    assert found.columns("outcome") == ["ok", "ok"]
    assert found.statements[0]["copy"]["direction"] == "both"


def test_stream_that_the_server_ends() -> None:
    trace = opened(replication="true")
    trace.client(query("START_REPLICATION 0/0"))
    trace.server(copy_both_response() + copy_data("w" + "x" * 99))
    trace.server(error("terminating", "57P01", "FATAL"))
    trace.close("server")
    found = records(trace)

    assert [one["ended"] for one in found.bodies("replication")] == [False, True]
    assert {one["mode"] for one in found.bodies("replication")} == {"physical"}
    assert found.columns("outcome", "sqlstate") == [("error", "57P01")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"IDENTIFY_SYSTEM", True),
        (b"  identify_system ;", True),
        (b"BASE_BACKUP (LABEL 'x')", True),
        (b"BASE_BACKUP(LABEL 'x')", True),
        (b"CREATE_REPLICATION_SLOT s LOGICAL pgoutput", True),
        (b"SHOW server_version", False),
        (b"select 1", False),
        (b"IDENTIFY_SYSTEMS", False),
        (b"", False),
        (b";;", False),
    ],
)
def test_is_replication_command(text: bytes, expected: bool) -> None:
    assert is_replication_command(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"START_REPLICATION 0/0", (b"physical", None)),
        (b"START_REPLICATION SLOT s PHYSICAL 0/0 TIMELINE 2", (b"physical", b"s")),
        (b'start_replication slot "s" logical 0/0', (b"logical", b"s")),
        (b"START_REPLICATION SLOT", (b"physical", None)),
        (b"IDENTIFY_SYSTEM", (None, None)),
        (b"", (None, None)),
    ],
)
def test_mode_and_slot(text: bytes, expected: tuple[bytes | None, bytes | None]) -> None:
    assert mode_and_slot(text) == expected


def test_sql_is_sql_outside_of_replication() -> None:
    """The same words from an ordinary session are a syntax error and no command."""
    trace = opened()
    trace.client(query("IDENTIFY_SYSTEM"))
    trace.server(error("syntax error", "42601") + ready())
    (body,) = records(trace).statements

    assert (body["outcome"], body["class"]) == ("error", None)
