"""A whole connection: phases, gaps in every place, and what it takes to find a boundary again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pgwire.recording import CLIENT, FEEDS, SERVER, Call, Feed, Wire
from tests.support import pgmsg

NONE, TURN, QUIET = 0, 1, 2


def ready_wire(**options: int) -> Wire:
    """A connection behind its login; the calls of that are forgotten."""
    wire = Wire(**options)  # type: ignore[arg-type]
    wire.client(pgmsg.startup())
    wire.server(pgmsg.auth_ok() + pgmsg.ready())
    wire.calls.clear()
    wire.listener.offsets.clear()
    wire.listener.times.clear()
    return wire


ANSWER = pgmsg.row_description() + pgmsg.data_row("1") + pgmsg.command_complete("SELECT 1") + pgmsg.ready()
ANSWERED: list[Call] = [
    ("row_description",),
    ("data_rows", 1),
    ("command_complete", b"SELECT 1"),
    ("ready_for_query", "I"),
]
ASKED: Call = ("query", b"SELECT 1", 0)


@pytest.mark.parametrize("feed", FEEDS)
def test_a_conversation(feed: Feed) -> None:
    wire = Wire(feed=feed)
    wire.client(pgmsg.startup())
    wire.server(pgmsg.auth_sasl())
    wire.client(pgmsg.sasl_initial_response("SCRAM-SHA-256", "n,,n=,r=x"))
    wire.server(pgmsg.auth_sasl_continue())
    wire.client(pgmsg.sasl_response("c=biws,r=x,p=y"))
    wire.server(pgmsg.auth_sasl_final() + pgmsg.login())
    wire.client(pgmsg.query("SELECT 1"))
    wire.server(ANSWER)
    wire.client(pgmsg.terminate())
    names = [name for name in wire.names() if name != "parameter_status"]
    assert names == [
        "startup_message",
        "authentication_request",
        "authentication_mechanism",
        "authentication_ok",
        "backend_key_data",
        "ready_for_query",
        "query",
        "row_description",
        "data_rows",
        "command_complete",
        "ready_for_query",
        "terminate",
    ]


def test_rows_are_told_where_and_when_the_first_one_was() -> None:
    wire = ready_wire()
    start = wire.offsets[SERVER]
    wire.client(pgmsg.query("SELECT 1"))
    sent = wire.time
    wire.server(pgmsg.row_description())
    wire.server(pgmsg.data_row("1"))
    wire.server(pgmsg.data_row("2"))
    wire.server(pgmsg.command_complete("SELECT 2"))
    first = start + len(pgmsg.row_description())
    last = first + 2 * len(pgmsg.data_row("1"))
    assert wire.listener.offsets[2][:2] == ("data_rows", first)
    assert wire.listener.times[2][:2] == ("data_rows", sent + 2)
    assert wire.listener.offsets[3] == (
        "command_complete",
        last,
        last + len(pgmsg.command_complete("SELECT 2")),
    )
    assert wire.listener.times[3] == ("command_complete", sent + 4, sent + 4)


def test_counted_so_far() -> None:
    wire = ready_wire()
    wire.client(pgmsg.copy_data("abc") * 2)
    wire.server(pgmsg.data_row("1") * 3)
    assert wire.done() == [("data_rows", 3), ("copy_data", True, 2, 6)]
    wire.server(pgmsg.data_row("1"))
    assert wire.done()[2:] == [("data_rows", 1)]


# -- gaps in the server's direction --

DAMAGED: list[tuple[bytes, int, list[Call]]] = [
    (pgmsg.command_complete("SELECT 1"), 5, [("damaged", SERVER, "C", 9)]),
    (
        pgmsg.error("boom", "42P01"),
        20,
        [("damaged", SERVER, "E", 13), ("error_response", pgmsg.error("boom", "42P01")[5:20])],
    ),
    (pgmsg.notice("note"), 10, [("damaged", SERVER, "N", 25)]),
    (pgmsg.parameter_status("a", "b"), 6, [("damaged", SERVER, "S", 3)]),
    (pgmsg.copy_in_response(2), 6, [("damaged", SERVER, "G", 6), ("copy_in_response",)]),
    (pgmsg.copy_both_response(), 5, [("damaged", SERVER, "W", 3), ("copy_both_response",)]),
    (pgmsg.parameter_description(23), 5, [("damaged", SERVER, "t", 6)]),
    (pgmsg.data_row("abc"), 8, [("data_rows", 1)]),
    (pgmsg.row_description(["a", "b"]), 9, [("row_description",)]),
    (pgmsg.copy_data("abc"), 6, [("copy_data", False, 1, 3)]),
]


@pytest.mark.parametrize(("message", "kept", "calls"), DAMAGED)
def test_gap_inside_a_server_message_costs_that_message(message: bytes, kept: int, calls: list[Call]) -> None:
    wire = ready_wire()
    wire.server(message[:kept])
    wire.gap(SERVER, len(message) - kept)
    wire.server(pgmsg.no_data())
    assert wire.done() == [*calls, ("no_data",)]
    assert not wire.connection.server_lost


def test_a_lost_transaction_status_is_a_lost_server() -> None:
    wire = ready_wire()
    wire.server(pgmsg.ready()[:5])
    wire.gap(SERVER, 1)
    wire.server(pgmsg.no_data())
    assert wire.done() == [("damaged", SERVER, "Z", 1), ("lost", SERVER, b"bytes_lost")]


REQUESTS: list[tuple[bytes, int, list[Call]]] = [
    (pgmsg.query("SELECT 1"), 9, [("query", b"SELE", 5)]),
    (pgmsg.parse("SELECT 1", "s"), 6, [("damaged", CLIENT, "P", 12)]),
    (pgmsg.bind(["x" * 50], name="s"), 20, [("bind", b"", b"s", b"\0\0\0\1\0\0\0\x32xxxx", 48)]),
    (pgmsg.execute("p"), 6, [("damaged", CLIENT, "E", 5)]),
    (pgmsg.copy_data("abc"), 6, [("copy_data", True, 1, 3)]),
    (pgmsg.copy_fail("no reason"), 6, [("copy_done",)]),
    (pgmsg.password("hunter2"), 6, []),
]


@pytest.mark.parametrize(("message", "kept", "calls"), REQUESTS)
def test_gap_inside_a_request_costs_that_request(message: bytes, kept: int, calls: list[Call]) -> None:
    wire = ready_wire()
    wire.client(message[:kept])
    wire.gap(CLIENT, len(message) - kept)
    wire.client(pgmsg.flush())
    assert wire.done() == [*calls, ("flush",)]
    assert not wire.connection.client_lost


# Over a header, and over several messages.
@pytest.mark.parametrize("kept", [0, 1, 4])
@pytest.mark.parametrize("direction", [CLIENT, SERVER])
def test_other_gaps_lose_the_direction(direction: int, kept: int) -> None:
    message = pgmsg.query("SELECT 1") if direction == CLIENT else pgmsg.command_complete("SELECT 1")
    behind = pgmsg.sync() if direction == CLIENT else pgmsg.ready()
    for length in (1, len(message) - kept, len(message) - kept + 2):
        wire = ready_wire()
        wire.send(direction, message[:kept])
        wire.gap(direction, length)
        wire.send(direction, (message + behind)[kept + length :])
        assert wire.done() == [("lost", direction, b"bytes_lost")]


def test_impossible_length_loses_the_direction() -> None:
    wire = ready_wire()
    wire.client(pgmsg.sync() + pgmsg.message("Q", b"", 0x7FFFFFFF) + pgmsg.sync())
    wire.server(pgmsg.no_data() + pgmsg.message("1", b"x"))
    assert wire.done() == [
        ("sync",),
        ("lost", CLIENT, b"impossible_length"),
        ("no_data",),
        ("lost", SERVER, b"impossible_length"),
    ]
    assert wire.listener.offsets[1][1] == wire.offsets[CLIENT] - 10


# -- finding a boundary again --


def client_lost() -> Wire:
    """The client lost a request, and was answered."""
    wire = ready_wire()
    wire.gap(CLIENT, 14)
    wire.server(ANSWER)
    assert wire.calls == [("lost", CLIENT, b"bytes_lost"), *ANSWERED]
    wire.calls.clear()
    return wire


def both_lost(tail: bytes = pgmsg.ready()) -> Wire:
    """Joined in the middle; `tail` is all that the server said since."""
    wire = Wire(mid_stream=True)
    wire.client(pgmsg.query("x")[3:])
    if tail:
        wire.server(tail)
    wire.calls.clear()
    return wire


def test_client_resumes_at_a_turn() -> None:
    wire = client_lost()
    wire.client(pgmsg.query("SELECT 1"), TURN)
    wire.server(ANSWER)
    assert wire.done() == [("resumed", True, False), ASKED, *ANSWERED]


def test_client_does_not_resume_elsewhere() -> None:
    wire = client_lost()
    wire.client(pgmsg.query("SELECT 1"), NONE)
    assert wire.done() == []


def test_client_does_not_resume_before_it_was_answered() -> None:
    wire = client_lost()
    wire.client(pgmsg.query("SELECT 1"), NONE)  # not read, but it will be answered
    wire.client(pgmsg.query("SELECT 2"), TURN)
    assert wire.done() == []
    wire.server(ANSWER)
    wire.calls.clear()
    wire.client(pgmsg.query("SELECT 1"), TURN)
    assert wire.done() == [("resumed", True, False), ASKED]


@pytest.mark.parametrize("last", [pgmsg.data_row("1"), pgmsg.command_complete("x"), pgmsg.ready()[:5]])
def test_client_does_not_resume_while_the_server_is_at_work(last: bytes) -> None:
    wire = ready_wire()
    wire.gap(CLIENT, 14)
    wire.server(ANSWER + last)
    wire.calls.clear()
    wire.client(pgmsg.query("SELECT 1"), QUIET)
    assert "resumed" not in wire.names()
    assert "query" not in wire.names()


@pytest.mark.parametrize("last", [pgmsg.notice(), pgmsg.notification("c"), pgmsg.parameter_status("a", "b")])
def test_what_can_come_at_any_time_does_not_matter(last: bytes) -> None:
    wire = ready_wire()
    wire.gap(CLIENT, 14)
    wire.server(ANSWER + last)
    wire.calls.clear()
    wire.client(pgmsg.query("SELECT 1"), TURN)
    assert wire.calls == [("resumed", True, False), ASKED]


def server_lost() -> Wire:
    wire = ready_wire()
    wire.client(pgmsg.query("SELECT 0"))
    wire.gap(SERVER, 30)
    assert wire.calls[1:] == [("lost", SERVER, b"bytes_lost")]
    wire.calls.clear()
    return wire


@pytest.mark.parametrize("status", "ITE")
def test_server_resumes_with_the_answer_to_a_turn(status: str) -> None:
    wire = server_lost()
    wire.server(b"...D\0\0\0" + pgmsg.ready(status))
    wire.client(pgmsg.query("SELECT 1"), TURN)
    assert wire.listener.status_before == ord(status)
    wire.server(ANSWER, TURN)
    assert wire.done() == [("resumed", False, True), ASKED, *ANSWERED]


def test_server_resumes_if_nothing_was_seen_since() -> None:
    # The whole answer was lost; the client goes on, so it must have had it.
    wire = server_lost()
    wire.client(pgmsg.query("SELECT 1"), TURN)
    assert wire.listener.status_before == 0
    wire.server(ANSWER, TURN)
    assert wire.done() == [("resumed", False, True), ASKED, *ANSWERED]


@pytest.mark.parametrize(
    "tail",
    [
        pgmsg.data_row("1"),
        pgmsg.command_complete("SELECT 1"),
        pgmsg.ready()[:5],
        pgmsg.ready() + b"x",
        b"Z\0\0\0\5X",
        b"Y\0\0\0\5I",
        b"I",
    ],
)
def test_server_does_not_resume_behind_anything_but_ready_for_query(tail: bytes) -> None:
    wire = server_lost()
    wire.server(tail)
    wire.client(pgmsg.query("SELECT 1"), TURN)
    wire.server(ANSWER, TURN)
    assert wire.done() == [ASKED]


@pytest.mark.parametrize("step", [1, 2, 5])
def test_the_tail_may_come_in_pieces(step: int) -> None:
    wire = server_lost()
    tail = b"..." + pgmsg.ready()
    for at in range(0, len(tail), step):
        wire.server(tail[at : at + step])
    wire.client(pgmsg.query("SELECT 1"), TURN)
    assert wire.calls == [("resumed", False, True), ASKED]


def test_the_tail_does_not_reach_over_a_gap() -> None:
    wire = server_lost()
    wire.server(pgmsg.ready()[:3])
    wire.gap(SERVER, 10)
    wire.server(pgmsg.ready()[3:])
    wire.client(pgmsg.query("SELECT 1"), TURN)
    assert wire.calls == [ASKED]


def test_server_does_not_resume_if_the_answer_is_no_turn() -> None:
    wire = server_lost()
    wire.client(pgmsg.query("SELECT 1"), TURN)
    wire.server(ANSWER, NONE)
    assert wire.done() == [("resumed", False, True), ASKED]
    # ... and the next turn does not take an old answer's place for its own.
    wire.client(pgmsg.query("SELECT 2"), NONE)
    wire.server(ANSWER, NONE)
    assert wire.done()[2:] == [("query", b"SELECT 2", 0)]


def test_an_answer_lost_on_the_way_back_is_lost_again() -> None:
    wire = server_lost()
    wire.client(pgmsg.query("SELECT 1"), TURN)
    wire.gap(SERVER, len(ANSWER))
    wire.client(pgmsg.query("SELECT 2"), NONE)
    wire.server(ANSWER, TURN)  # of SELECT 2, but who can tell
    assert wire.done() == [
        ("resumed", False, True),
        ASKED,
        ("lost", SERVER, b"bytes_lost"),
        ("query", b"SELECT 2", 0),
    ]


def test_a_later_turn_ends_the_wait_for_an_answer() -> None:
    wire = server_lost()
    wire.client(pgmsg.query("SELECT 1"), TURN)
    wire.server(pgmsg.command_complete("SELECT 1"), NONE)
    wire.client(pgmsg.query("SELECT 2"), TURN)  # the tail is no ReadyForQuery: not accepted
    wire.server(ANSWER, TURN)
    assert wire.done()[2:] == [("query", b"SELECT 2", 0)]


def test_server_does_not_resume_in_the_middle_of_a_request() -> None:
    wire = server_lost()
    request = pgmsg.query("SELECT 1" + "x" * 50)
    wire.client(request[:20])
    wire.client(request[20:], QUIET)
    wire.server(ANSWER, QUIET)
    assert wire.names() == ["query"]


def test_both_resume() -> None:
    wire = both_lost()
    wire.client(pgmsg.query("SELECT 1"), TURN)
    wire.server(ANSWER, TURN)
    assert wire.done() == [("resumed", True, True), ASKED, *ANSWERED]


def test_both_do_not_resume_on_silence() -> None:
    # Without a word of the server's, who spoke last is a guess.
    wire = both_lost(b"")
    wire.client(pgmsg.query("SELECT 1"), QUIET)
    assert wire.calls == []
    wire.server(ANSWER)
    wire.client(pgmsg.query("SELECT 1"), TURN)
    assert wire.calls == [("resumed", True, True), ASKED]


def test_a_client_that_sends_ahead_resumes_only_after_a_pause() -> None:
    for boundary, expected in ((TURN, []), (QUIET, [("resumed", True, False), ASKED])):
        wire = client_lost()
        wire.listener.pipelined = True
        wire.client(pgmsg.query("SELECT 1"), boundary)
        assert wire.calls == expected


def test_a_listener_may_reject_what_was_resumed() -> None:
    wire = both_lost()
    wire.client(pgmsg.query("SELECT 1"), TURN)
    wire.listener.out_of_step = True
    wire.server(pgmsg.parse_complete() + pgmsg.ready(), TURN)
    assert wire.names() == ["resumed", "query", "parse_complete", "rejected", "lost", "lost"]
    assert wire.counters.resync_rejected == 1
    assert not wire.listener.out_of_step
    # It is not the end: the next turn is another chance.
    wire.calls.clear()
    wire.server(ANSWER)
    wire.client(pgmsg.query("SELECT 1"), TURN)
    wire.server(ANSWER, TURN)
    assert wire.done() == [("resumed", True, True), ASKED, *ANSWERED]


def test_planted_messages_are_not_looked_for() -> None:
    """Bytes alone prove nothing: neither requests nor a ReadyForQuery in the middle of something."""
    wire = client_lost()
    for _ in range(5):
        wire.client(pgmsg.query("DROP TABLE planted") + pgmsg.sync())
        wire.server(pgmsg.ready())
    assert "query" not in wire.names()
    wire = both_lost()
    for _ in range(5):
        wire.client(pgmsg.query("DROP TABLE planted"))
        wire.server(pgmsg.ready() + pgmsg.command_complete("DROP TABLE") + pgmsg.ready())
    assert wire.calls == []


def test_trusted_first_segment() -> None:
    wire = Wire(mid_stream=True)
    wire.connection.trust_first_segment()
    wire.client(pgmsg.query("SELECT 1"))
    wire.server(ANSWER)
    assert wire.done() == [ASKED, *ANSWERED]


def test_finish_lets_go() -> None:
    wire = ready_wire(budget=1000)
    wire.client(pgmsg.query("x" * 500)[:300])
    assert wire.budget.used > 0
    wire.connection.finish()
    assert wire.budget.used == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from([CLIENT, SERVER]),
            st.one_of(
                st.integers(1, 60),
                st.binary(min_size=1, max_size=30),
                st.sampled_from(
                    [pgmsg.query("SELECT 1"), pgmsg.sync(), pgmsg.parse("x"), pgmsg.bind(["v"]), ANSWER]
                ),
            ),
            st.sampled_from([NONE, TURN, QUIET]),
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_anything_is_taken(steps: list[tuple[int, int | bytes, int]], joined: bool) -> None:
    wire = both_lost() if joined else ready_wire(max_message_bytes=40, budget=100)
    for direction, part, boundary in steps:
        if isinstance(part, int):
            wire.gap(direction, part)
        else:
            wire.send(direction, part, boundary)
    wire.connection.flush_counts()
    seen = sum(len(part) for direction, part, _ in steps if not isinstance(part, int) and direction == CLIENT)
    assert wire.connection.client_undecoded <= seen + 11
    wire.connection.finish()
    assert wire.budget.used == 0
