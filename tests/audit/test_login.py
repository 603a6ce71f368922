"""Logins: who came, who was refused, who asked to cancel whom, and what was encrypted."""

from typing import Any

import pytest

from tests.audit.conversation import SELECTED, opened, records
from tests.support import pgmsg
from tests.support.pgmsg import (
    auth_cleartext,
    auth_md5,
    auth_sasl,
    auth_sasl_continue,
    auth_sasl_final,
    error,
    gssenc_request,
    login,
    negotiate_protocol_version,
    password,
    query,
    ready,
    sasl_initial_response,
    sasl_response,
    ssl_request,
    startup,
)
from tests.support.wrap import TcpTrace

SECRET = "hunter2-is-not-for-records"
REFUSED = error('password authentication failed for user "app"', "28P01", "FATAL")


def connection(port: int = 40001) -> TcpTrace:
    trace = TcpTrace(client=("10.0.1.10", port))
    trace.open()
    return trace


@pytest.mark.parametrize(
    ("asked", "answer", "name"),
    [
        (b"", b"", "trust"),
        (auth_cleartext(), password(SECRET), "cleartext"),
        (auth_md5(), password(SECRET), "md5"),
        (auth_sasl(), sasl_initial_response("SCRAM-SHA-256", SECRET), "SCRAM-SHA-256"),
    ],
)
def test_methods(asked: bytes, answer: bytes, name: str) -> None:
    trace = connection()
    trace.client(startup("app", "shop", application_name="psql"))
    if asked:
        trace.server(asked)
        trace.client(answer)
    if name.startswith("SCRAM"):
        trace.server(auth_sasl_continue())
        trace.client(sasl_response(SECRET))
        trace.server(auth_sasl_final())
    trace.server(login(version="16.2", pid=77))
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())
    found = records(trace)
    start = found[0]["session_start"]

    assert (start["joined"], start["protocol_version"], start["replication"]) == ("start", "3.0", None)
    assert name.lower() in start["authentication"].lower()
    assert start["coverage"] == {"complete": True, "bytes_lost": 0, "reasons": []}
    for one in found:
        assert (one["user"], one["database"], one["application_name"]) == ("app", "shop", "psql")
        assert (one["server_version"], one["backend_pid"]) == ("16.2", 77)
        assert (one["client_address"], one["client_port"]) == ("10.0.1.10", 40001)
        assert SECRET not in str(one)


@pytest.mark.parametrize("early", [b"", query("drop table x")])
def test_refused(early: bytes) -> None:
    trace = connection()
    trace.client(startup("app", "shop"))
    trace.server(auth_cleartext())
    trace.client(password(SECRET) + early)
    trace.server(REFUSED)
    trace.close("server")
    found = records(trace)

    (failed,) = found.bodies("login_failed")
    assert (failed["sqlstate"], failed["severity"]) == ("28P01", "FATAL")
    assert not found.bodies("session_start")
    assert "ok" not in found.columns("outcome")
    assert SECRET not in str(found)


def test_given_up_by_the_client() -> None:
    trace = connection()
    trace.client(startup("app", "shop"))
    trace.server(auth_cleartext())
    trace.close()
    found = records(trace)

    (failed,) = found.bodies("login_failed")
    assert failed["sqlstate"] is None
    assert found[-1]["session_end"]["reason"] == "client_closed"


def test_encryption_refused() -> None:
    trace = connection()
    trace.client(ssl_request())
    trace.server(b"N")
    trace.client(gssenc_request())
    trace.server(b"N")
    trace.client(startup("app", "shop"))
    trace.server(login())
    found = records(trace)

    assert found[0]["session_start"]["tls"] is False
    assert not found.bodies("encrypted_session")


@pytest.mark.parametrize(
    ("request_", "answer", "name"), [(ssl_request(), b"S", "tls"), (gssenc_request(), b"G", "gssapi")]
)
def test_encrypted(request_: bytes, answer: bytes, name: str) -> None:
    trace = connection()
    trace.client(request_)
    trace.server(answer)
    trace.client(b"\x17\x03\x03\x00\x20" + bytes(32))
    trace.close()
    found = records(trace)

    (body,) = found.bodies("encrypted_session")
    assert (body["protocol"], body["negotiation"], body["decoded"]) == (name, "requested", False)
    assert found[-1]["session_end"]["encrypted"]
    assert not found.statements


def test_older_protocol_is_negotiated() -> None:
    trace = connection()
    trace.client(startup("app", "shop", minor=2))
    trace.server(negotiate_protocol_version(0) + login())

    assert records(trace)[0]["session_start"]["protocol_version"] == "3.0"


def cancelled(pid: int, key: int) -> list[dict[str, Any]]:
    session, cancel = opened(), connection()
    session.client(query("select pg_sleep(100)"))
    cancel.client(pgmsg.cancel_request(pid, key))
    cancel.close("server")
    session.server(error("canceling statement due to user request", "57014") + ready())
    session.close()
    return records([*session.frames[:-5], *cancel.frames, *session.frames[-5:]])


def test_cancel_request() -> None:
    found = cancelled(4711, 12345)
    (session,) = {one["session_id"] for one in found if one["kind"] == "statement"}

    (body,) = [one["cancel_request"] for one in found if one["kind"] == "cancel_request"]
    assert body == {
        "target_session_id": session,
        "target_pid": 4711,
        "target_user": "app",
        "target_database": "shop",
    }
    assert "12345" not in str(body)


def test_cancel_request_with_a_wrong_key() -> None:
    (body,) = [one["cancel_request"] for one in cancelled(4711, 54321) if one["kind"] == "cancel_request"]

    assert body["target_pid"] == 4711
    assert body["target_session_id"] is None
