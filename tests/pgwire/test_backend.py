"""Every message of a server, as the manual defines it: bytes in, one call out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.pgwire.backend import BackendReader
from mirror_audit.pgwire.startup import key_digest
from tests.pgwire.recording import CLIENT, FEEDS, SERVER, Call, Feed, Recorder, converse
from tests.support import pgmsg

ERROR = pgmsg.error("boom", "42P01", D="detail")
NOTICE = pgmsg.notice("note")

MESSAGES: list[Any] = [
    *[(pgmsg.ready(status), [("ready_for_query", status)]) for status in "ITE"],
    (pgmsg.command_complete("INSERT 0 1"), [("command_complete", b"INSERT 0 1")]),
    (pgmsg.command_complete(""), [("command_complete", b"")]),
    (pgmsg.parse_complete(), [("parse_complete",)]),
    (pgmsg.bind_complete(), [("bind_complete",)]),
    (pgmsg.close_complete(), [("close_complete",)]),
    (pgmsg.row_description(), [("row_description",)]),
    (pgmsg.row_description([]), [("row_description",)]),
    (pgmsg.row_description(["c" * 60] * 1600), [("row_description",)]),
    (pgmsg.no_data(), [("no_data",)]),
    (pgmsg.data_row("a") + pgmsg.portal_suspended(), [("data_rows", 1), ("portal_suspended",)]),
    (
        pgmsg.rows([], ["a", None], ["b" * 900, ""]) + pgmsg.command_complete("SELECT 3"),
        [("data_rows", 3), ("command_complete", b"SELECT 3")],
    ),
    (pgmsg.data_row("a"), [("data_rows", 1)]),
    (pgmsg.parameter_description(23, 0), [("parameter_description", b"\0\0\0\x17\0\0\0\0")]),
    (pgmsg.parameter_description(), [("parameter_description", b"")]),
    (pgmsg.empty_query_response(), [("empty_query_response",)]),
    (pgmsg.function_call_response(b"\0\0\0\7"), [("function_call_response",)]),
    (pgmsg.function_call_response(None), [("function_call_response",)]),
    (ERROR, [("error_response", ERROR[5:])]),
    (pgmsg.message("E", b"\0"), [("error_response", b"\0")]),
    (NOTICE, [("notice_response", NOTICE[5:])]),
    (pgmsg.notification("jobs", "payload", 99), [("notification_response", 99, b"jobs")]),
    (pgmsg.parameter_status("TimeZone", "UTC"), [("parameter_status", b"TimeZone", b"UTC")]),
    (pgmsg.parameter_status("search_path", ""), [("parameter_status", b"search_path", b"")]),
    (pgmsg.copy_in_response(3), [("copy_in_response",)]),
    (pgmsg.copy_out_response(0, 1), [("copy_out_response",)]),
    (pgmsg.copy_both_response(), [("copy_both_response",)]),
    (pgmsg.copy_data("1\n") + pgmsg.copy_done(), [("copy_data", False, 1, 2)]),
    (pgmsg.copy_data("1\n") * 5, [("copy_data", False, 5, 10)]),
    (pgmsg.auth_ok(), [("authentication_ok",)]),
    (pgmsg.authentication(2), [("authentication_request", b"kerberos_v5")]),
    (pgmsg.auth_cleartext(), [("authentication_request", b"cleartext_password")]),
    (pgmsg.auth_md5(), [("authentication_request", b"md5_password")]),
    (pgmsg.authentication(6), [("authentication_request", b"scm_credential")]),
    (pgmsg.authentication(7), [("authentication_request", b"gss")]),
    (pgmsg.authentication(8, b"token"), []),
    (pgmsg.authentication(9), [("authentication_request", b"sspi")]),
    (pgmsg.auth_sasl(), [("authentication_request", b"sasl")]),
    (pgmsg.auth_sasl_continue(), []),
    (pgmsg.auth_sasl_final(), []),
    (pgmsg.authentication(99), [("authentication_request", b"method_99")]),
    (pgmsg.authentication(0xFFFFFFFF), [("authentication_request", b"method_4294967295")]),
    *[
        (pgmsg.backend_key_data(4711, key), [("backend_key_data", 4711, key_digest(4711, key))])
        for key in (b"\0\0\x30\x39", b"k" * 32, b"k" * 256, b"")
    ],
    (pgmsg.negotiate_protocol_version(2), [("negotiate_protocol_version", 2, [])]),
    (
        pgmsg.negotiate_protocol_version(0, ["_pq_.x", "_pq_.y"]),
        [("negotiate_protocol_version", 0, [b"_pq_.x", b"_pq_.y"])],
    ),
    (pgmsg.message("y", b"a message of tomorrow"), []),
]

MALFORMED = [
    pgmsg.ready("X"),
    pgmsg.ready("\0"),
    pgmsg.message("C", b"INSERT 0 1"),
    pgmsg.message("C"),
    pgmsg.message("S", b"TimeZone\0UTC"),
    pgmsg.message("S", b"TimeZone"),
    pgmsg.message("A", b"\0\0\0\1jobs"),
    pgmsg.message("A", b"\0\0"),
    pgmsg.message("t", b"\0"),
    pgmsg.message("t", b"\0\2\0\0\0\x17"),
    pgmsg.message("R", b"\0\0"),
    pgmsg.message("K", b"\0\0\0"),
    pgmsg.message("v", b"\0\3\0\0"),
]


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(("message", "calls"), MESSAGES)
def test_message(message: bytes, calls: list[Call], feed: Feed) -> None:
    if len(message) > 10_000 and feed == "bytes":
        feed = "inside"
    start = [(CLIENT, pgmsg.startup())]
    before = converse(start, feed)
    assert converse([*start, (SERVER, message)], feed) == [*before, *calls]
    told = converse([*start, (SERVER, message + pgmsg.no_data())], feed)
    assert told == [*before, *calls, ("no_data",)]


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("message", MALFORMED)
def test_malformed_message_costs_only_itself(message: bytes, feed: Feed) -> None:
    told = converse([(CLIENT, pgmsg.startup()), (SERVER, message + pgmsg.no_data())], feed)
    assert told[1:] == [("malformed", SERVER, message[:1].decode()), ("no_data",)]


def test_many_unsupported_options_are_bounded() -> None:
    message = pgmsg.negotiate_protocol_version(0, [f"_pq_.{i}" for i in range(1000)])
    call = converse([(CLIENT, pgmsg.startup()), (SERVER, message)])[1]
    assert isinstance(call[2], list)
    assert len(call[2]) == 64


def damaged(message: bytes, missing: int) -> list[Call]:
    listener = Recorder()
    buf = b"\0\0" + message[: len(message) - missing] + b"\0\0\0\0"
    BackendReader(listener).read_damaged(buf[2], buf, 7, len(buf) - 4)
    return listener.calls


def test_damaged_error_keeps_its_first_fields() -> None:
    assert damaged(ERROR, 20) == [("error_response", ERROR[5:-20])]
    assert damaged(ERROR, len(ERROR) - 5) == [("error_response", b"")]


@pytest.mark.parametrize("message", [pgmsg.copy_in_response(3), pgmsg.copy_out_response(3)])
def test_that_a_copy_begins_needs_no_body(message: bytes) -> None:
    assert damaged(message, 4) == converse([(CLIENT, pgmsg.startup()), (SERVER, message)])[1:]


@pytest.mark.parametrize(
    "message",
    [
        NOTICE,
        pgmsg.notification("jobs"),
        pgmsg.command_complete("INSERT 0 1"),
        pgmsg.parameter_status("a", "b"),
        pgmsg.parameter_description(1, 2),
        pgmsg.auth_md5(),
        pgmsg.backend_key_data(),
        pgmsg.negotiate_protocol_version(),
    ],
)
def test_others_say_nothing_without_their_end(message: bytes) -> None:
    for missing in range(1, len(message) - 4):
        assert damaged(message, missing) == []


@given(st.sampled_from("ACDEGHIKNRSTVWZcdnstv123y"), st.binary(min_size=1, max_size=64))
def test_any_body_is_taken(kind: str, body: bytes) -> None:
    listener = Recorder()
    buf = b"\xff" + body + b"\xff\0\xff"
    reader = BackendReader(listener)
    reader.read(ord(kind), buf, 1, 1 + len(body))
    reader.read_damaged(ord(kind), buf, 1, 1 + len(body))
    assert len(listener.calls) <= 2
