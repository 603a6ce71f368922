"""Sessions: how they begin and end, progress of long statements, and who is named when."""

import pytest

from tests.audit.conversation import SELECTED, done, opened, records
from tests.support.pgmsg import error, notice, parameter_status, query, ready, terminate
from tests.support.wrap import TcpTrace

SHUTDOWN = error("terminating connection due to administrator command", "57P01", "FATAL")


def test_fatal_while_idle() -> None:
    trace = opened()
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())
    trace.server(SHUTDOWN)
    trace.close("server")
    found = records(trace)

    assert found.columns("outcome") == ["ok"]
    end = found[-1]["session_end"]
    assert (end["reason"], end["sqlstate"]) == ("fatal", "57P01")


def test_fatal_while_a_statement_runs() -> None:
    trace = opened()
    trace.client(query("select pg_sleep(100)"))
    trace.server(SHUTDOWN)
    trace.close("server")
    found = records(trace)

    assert found.columns("outcome", "sqlstate", "severity") == [("error", "57P01", "FATAL")]
    assert found[-1]["session_end"]["reason"] == "fatal"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("terminate", "terminate"),
        ("client", "client_closed"),
        ("server", "server_closed"),
        ("reset", "reset"),
        ("nothing", "capture_end"),
    ],
)
def test_end(how: str, reason: str) -> None:
    trace = opened()
    trace.client(query("insert into t select 1"))
    trace.server(done("INSERT 0 3"))
    trace.client(query("boom"))
    trace.server(error("syntax", "42601") + ready())
    if how == "terminate":
        trace.client(terminate())
        trace.close()
    elif how in ("client", "server"):
        trace.close("client" if how == "client" else "server")
    elif how == "reset":
        trace.reset("client")
    end = records(trace)[-1]["session_end"]

    assert end["reason"] == reason
    totals = [end[name] for name in ("statements", "errors", "transactions", "rows", "bytes_lost")]
    assert totals == [2, 1, 2, 3, 0]
    assert end["bytes_from_client"] == sum(f.payload_len for f in trace.frames if f.direction == "client")
    assert end["bytes_from_server"] == sum(f.payload_len for f in trace.frames if f.direction == "server")
    assert end["duration_us"] > 0


def slow(seconds: int) -> TcpTrace:
    trace = opened()
    trace.client(query("call slow()"))
    for _ in range(seconds):
        trace.wait(1_000_000)
        trace.server(notice("working"))
    trace.server(done("CALL"))
    return trace


@pytest.mark.parametrize(("seconds", "count"), [(8, 0), (12, 1), (35, 3)])
def test_progress(seconds: int, count: int) -> None:
    found = records(slow(seconds))
    progress = found.bodies("statement_progress")

    assert len(progress) == count
    assert {one["statement_id"] for one in progress} <= set(found.ids("statement"))
    assert [one["running_us"] // 10_000_000 for one in progress] == list(range(1, count + 1))
    assert {one["text"] for one in progress} <= {"call slow()"}
    received = [one["bytes_from_server"] for one in progress]
    assert received == sorted(received)


def test_no_progress_if_it_is_not_wanted() -> None:
    assert not records(slow(35), limits={"progress_interval_us": 0}).bodies("statement_progress")


def test_application_name_holds_from_the_next_statement_on() -> None:
    trace = opened(application_name="one")
    for text in ("select 1", "set application_name to 'two'", "select 2"):
        trace.client(query(text))
        report = parameter_status("application_name", "two") if text.startswith("set") else b""
        trace.server(report + done("SET" if report else "SELECT 0"))
    found = records(trace)

    names = [one["application_name"] for one in found if one["kind"] == "statement"]
    assert (names[0], names[2]) == ("one", "two")
    assert found[-1]["application_name"] == "two"


def test_times() -> None:
    trace = opened()
    trace.wait(1_000_000)
    trace.client(query("select 1"))
    trace.wait(3_000)
    trace.server(SELECTED[:20])
    trace.wait(4_000)
    trace.server(SELECTED[20:] + ready())
    (body,) = records(trace).statements

    assert 3_000 <= body["time_to_first_byte_us"] < 4_000 + 7_000
    assert 7_000 <= body["duration_us"] < 8_000
    assert body["bytes_from_client"] == len(query("select 1"))
    assert body["bytes_from_server"] == len(SELECTED), "ReadyForQuery is no part of it"
