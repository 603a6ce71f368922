"""Every message of a client, as the manual defines it: bytes in, one call out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.pgwire.frontend import FrontendReader
from tests.pgwire.recording import CLIENT, FEEDS, SERVER, Call, Feed, Recorder, converse
from tests.support import pgmsg

LONG = "n" * 300
VALUES = b"\0\1\0\0\0\2\0\0\0\3abc\xff\xff\xff\xff\0\0"

MESSAGES: list[tuple[bytes, list[Call]]] = [
    (pgmsg.query("SELECT 1"), [("query", b"SELECT 1", 0)]),
    (pgmsg.query(""), [("query", b"", 0)]),
    (pgmsg.query("SELECT 'ü'"), [("query", "SELECT 'ü'".encode(), 0)]),
    # The server reads the text up to its first zero byte, then complains about the rest.
    (pgmsg.message("Q", b"SELECT 1\0; DROP TABLE t\0"), [("query", b"SELECT 1", 0)]),
    (pgmsg.parse("SELECT $1"), [("parse", b"", b"SELECT $1", b"", 0, False)]),
    (
        pgmsg.parse("SELECT $1, $2", "s", [23, 0]),
        [("parse", b"s", b"SELECT $1, $2", b"\0\0\0\x17\0\0\0\0", 0, False)],
    ),
    (pgmsg.parse("", LONG), [("parse", LONG.encode(), b"", b"", 0, False)]),
    (pgmsg.parse("x", oids=[1] * 65535), [("parse", b"", b"x", b"\0\0\0\1" * 65535, 0, False)]),
    (
        pgmsg.bind(["abc", None], portal="p", name="s", formats=[0]),
        [("bind", b"p", b"s", VALUES, 0)],
    ),
    (pgmsg.bind(), [("bind", b"", b"", b"\0\0\0\0\0\0", 0)]),
    (pgmsg.message("B", b"\0\0"), [("bind", b"", b"", b"", 0)]),
    (pgmsg.describe("s", "S"), [("describe", False, b"s")]),
    (pgmsg.describe(), [("describe", True, b"")]),
    (pgmsg.execute(), [("execute", b"", 0)]),
    (pgmsg.execute("p", 50), [("execute", b"p", 50)]),
    (pgmsg.execute("p", -1), [("execute", b"p", -1)]),
    (pgmsg.close("s"), [("close", False, b"s")]),
    (pgmsg.close("p", "P"), [("close", True, b"p")]),
    (pgmsg.flush(), [("flush",)]),
    (pgmsg.sync(), [("sync",)]),
    (pgmsg.message("S", b"more"), [("sync",)]),
    (pgmsg.terminate(), [("terminate",)]),
    (pgmsg.copy_data("1\t2\n") + pgmsg.copy_done(), [("copy_data", True, 1, 4), ("copy_done",)]),
    (pgmsg.copy_data("") * 3 + pgmsg.copy_fail("no"), [("copy_data", True, 3, 0), ("copy_done",)]),
    (pgmsg.copy_data("abc"), [("copy_data", True, 1, 3)]),
    (pgmsg.function_call(951, [b"\0\0\0\1"], [1]), [("function_call", 951)]),
    (pgmsg.function_call(0xFFFFFFFF), [("function_call", 0xFFFFFFFF)]),
    (pgmsg.password("hunter2"), []),
    (pgmsg.sasl_response("c=biws,r=x,p=y"), []),
    (pgmsg.message("y", b"a message of tomorrow"), []),
]

MALFORMED = [
    pgmsg.message("Q", b"SELECT 1"),
    pgmsg.message("Q"),
    pgmsg.message("P"),
    pgmsg.message("P", b"s"),
    pgmsg.message("P", b"s\0SELECT 1"),
    pgmsg.message("P", b"s\0SELECT 1\0"),
    pgmsg.message("P", b"s\0SELECT 1\0\0\2\0\0\0\x17"),
    pgmsg.message("B"),
    pgmsg.message("B", b"p"),
    pgmsg.message("B", b"p\0s"),
    pgmsg.message("E"),
    pgmsg.message("E", b"p"),
    pgmsg.message("E", b"p\0\0\0\0"),
    *[pgmsg.message(kind, body) for kind in "DC" for body in (b"", b"S", b"Ss", b"Xs\0", b"\0\0")],
    pgmsg.message("F", b"\0\0\1"),
]


def login() -> list[tuple[int, bytes]]:
    return [(CLIENT, pgmsg.startup()), (SERVER, pgmsg.auth_ok() + pgmsg.ready())]


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(("message", "calls"), MESSAGES)
def test_message(message: bytes, calls: list[Call], feed: Feed) -> None:
    if len(message) > 10_000 and feed == "bytes":
        feed = "inside"
    before = converse(login(), feed)
    assert converse([*login(), (CLIENT, message)], feed) == [*before, *calls]
    # What follows is not touched.
    told = converse([*login(), (CLIENT, message + pgmsg.flush())], feed)
    assert told == [*before, *calls, ("flush",)]


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("message", MALFORMED)
def test_malformed_message_costs_only_itself(message: bytes, feed: Feed) -> None:
    before = converse(login(), feed)
    told = converse([*login(), (CLIENT, message + pgmsg.query("SELECT 1"))], feed)
    assert told == [*before, ("malformed", CLIENT, message[:1].decode()), ("query", b"SELECT 1", 0)]


def read(message: bytes, missing: int) -> tuple[bool, list[Call]]:
    """The message without its last `missing` bytes, read from the middle of a buffer."""
    listener = Recorder()
    buf = b"\0\0" + message[: len(message) - missing] + b"\0\0\0\0"
    kept = FrontendReader(listener).read(buf[2], buf, 7, len(buf) - 4, missing)
    return kept, listener.calls


def test_damaged_query_keeps_its_beginning() -> None:
    assert read(pgmsg.query("SELECT 1"), 1) == (True, [("query", b"SELECT 1", 1)])
    assert read(pgmsg.query("SELECT 1"), 4) == (True, [("query", b"SELEC", 4)])
    assert read(pgmsg.query("SELECT 1"), 9) == (True, [("query", b"", 9)])


def test_damaged_parse() -> None:
    message = pgmsg.parse("SELECT $1", "s", [23])
    # Only type OIDs are missing: the text is whole.
    for missing in range(1, 7):
        assert read(message, missing) == (True, [("parse", b"s", b"SELECT $1", b"", missing, False)])
    assert read(message, 7) == (True, [("parse", b"s", b"SELECT $1", b"", 7, True)])
    assert read(message, 16) == (True, [("parse", b"s", b"", b"", 16, True)])
    assert read(message, 17) == (False, [])  # the name's end is gone, too


def test_damaged_bind() -> None:
    message = pgmsg.bind(["abc"], portal="p", name="s")
    values = message[9:]
    for missing in range(1, len(values) + 1):
        kept = values[: len(values) - missing]
        assert read(message, missing) == (True, [("bind", b"p", b"s", kept, missing)])
    assert read(message, len(values) + 1) == (False, [])


@pytest.mark.parametrize("message", [pgmsg.execute("p", 1), pgmsg.describe("p"), pgmsg.close("p")])
def test_other_damaged_requests_cannot_be_read(message: bytes) -> None:
    for missing in range(1, len(message) - 4):
        assert read(message, missing) == (False, [])


def test_an_oid_list_may_lie_about_its_length() -> None:
    body = pgmsg.message("P", b"\0SELECT 1\0\xff\xff\0\0\0\x17")
    assert read(body, 0) == (False, [])


# -- no secret passes --


def sasl(offered: bytes, answer: bytes) -> list[Call]:
    calls = converse(
        [
            (CLIENT, pgmsg.startup()),
            (SERVER, pgmsg.authentication(10, offered)),
            (CLIENT, answer),
            (CLIENT, pgmsg.sasl_response("c=biws,r=nonce,p=proof\0")),
        ]
    )
    assert b"proof" not in repr(calls).encode()
    return calls[2:]


SCRAM = b"SCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0\0"


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
def test_the_mechanism_is_told(mechanism: str) -> None:
    answer = pgmsg.sasl_initial_response(mechanism, "n,,n=,r=nonce")
    assert sasl(SCRAM, answer) == [("authentication_mechanism", mechanism.encode())]


@pytest.mark.parametrize(
    "answer",
    [
        pgmsg.password("hunter2"),
        pgmsg.password("SCRAM-SHA"),
        pgmsg.password("256"),
        pgmsg.password(""),
        pgmsg.sasl_initial_response("OAUTHBEARER", "token"),
        pgmsg.sasl_response("SCRAM-SHA-256"),
        pgmsg.message("p"),
    ],
)
def test_what_is_no_mechanism_on_offer_is_not_told(answer: bytes) -> None:
    assert sasl(SCRAM, answer) == []


@given(st.text(min_size=6), st.sampled_from([3, 5, 7, 9, 10]))
def test_no_password_is_told(secret: str, method: int) -> None:
    calls = converse(
        [
            (CLIENT, pgmsg.startup("u", "d")),
            (SERVER, pgmsg.authentication(method, SCRAM if method == 10 else b"salt")),
            (CLIENT, pgmsg.password(secret) * 2),
        ]
    )
    assert [call[0] for call in calls] == ["startup_message", "authentication_request"]


@given(st.sampled_from("QPBDECSHFpdcfXy"), st.binary(max_size=64), st.integers(0, 70))
def test_any_body_is_taken(kind: str, body: bytes, missing: int) -> None:
    listener = Recorder()
    buf = b"\xff" + body + b"\xff\0\xff"
    FrontendReader(listener).read(ord(kind), buf, 1, 1 + len(body), missing)
    assert len(listener.calls) <= 1
