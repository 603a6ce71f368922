"""Bytes that were not captured: told, and never the cause of a wrong word about a statement.

The rule that all of this keeps: a statement that was seen whole is told, and an outcome that is told is
the one that the statement had; what is not certain is "unknown".
"""

import itertools

import pytest

from tests.audit.conversation import SELECTED, Records, done, opened, records
from tests.support.pgmsg import data_row, error, query, ready
from tests.support.wrap import TcpTrace, data_indices, drop, truncate

# What the server does with each statement: (text, reply, outcome, tag, rows).
SCRIPT = (
    ("insert into i1", done("INSERT 0 1"), "ok", "INSERT 0 1"),
    ("update u2", done("UPDATE 2"), "ok", "UPDATE 2"),
    ("delete from d3", error("denied", "42501") + ready(), "error", None),
    ("insert into i4", done("INSERT 0 4"), "ok", "INSERT 0 4"),
    ("select 'x'", done("SELECT 9"), "ok", "SELECT 9"),
    ("drop table z", done("DROP TABLE"), "ok", "DROP TABLE"),
)
TRUTH = {text: (outcome, tag) for text, _, outcome, tag in SCRIPT}


def session(pipelined: bool) -> TcpTrace:
    trace = opened()
    if pipelined:
        trace.client(query("select 'a'") + query("select 'b'"))
        trace.server(done("SELECT 1") + done("SELECT 1"))
    for text, reply, _, _ in SCRIPT:
        trace.wait(300_000)
        trace.client(query(text))
        trace.server(reply)
    trace.close()
    return trace


def check_truth(found: Records) -> None:
    """Whatever is told of a statement is true."""
    for body in found.statements:
        if body["text"] in TRUTH and body["outcome"] != "unknown":
            outcome, tag = TRUTH[body["text"]]
            assert (body["outcome"], body["command_tag"]) == (outcome, tag), body["text"]


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("direction", ["client", "server"])
def test_any_one_segment_lost(direction: str, pipelined: bool) -> None:
    trace = session(pipelined)
    lost = [i for i in data_indices(trace.frames) if trace.frames[i].direction == direction]
    for index in lost[1:]:
        found = records(drop(trace.frames, index))
        check_truth(found)
        assert found.bodies("gap"), index
        assert found[-1]["session_end"]["bytes_lost"] == trace.frames[index].payload_len
        told = {text for text in found.columns("text") if text in TRUTH}
        assert len(told) >= len(TRUTH) - (direction == "client"), index


@pytest.mark.parametrize("pipelined", [False, True])
def test_any_two_replies_lost(pipelined: bool) -> None:
    """Every request was seen whole, so every statement is told."""
    trace = session(pipelined)
    replies = data_indices(trace.frames, "server")[1:]
    for pair in itertools.combinations(replies, 2):
        found = records(drop(trace.frames, *pair))
        check_truth(found)
        assert {text for text in found.columns("text") if text} >= set(TRUTH), pair


def test_request_lost() -> None:
    trace = opened()
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())
    trace.client(query("delete from secret"), captured=False)
    trace.server(done("DELETE 5"))
    trace.client(query("select 2"))
    trace.server(SELECTED + ready())
    trace.close()
    found = records(trace)

    rows = [(body["text"], body["command_tag"]) for body in found.statements]
    assert rows == [("select 1", "SELECT 1"), (None, "DELETE 5"), ("select 2", "SELECT 1")]
    assert [one["complete"] for one in found.columns("coverage")] == [True, False, True]
    (gap,) = found.bodies("gap")
    assert (gap["direction"], gap["bytes"], gap["recovered"]) == (
        "client_to_server",
        len(query("delete from secret")),
        True,
    )


def test_reply_lost() -> None:
    trace = opened()
    trace.client(query("delete from t"))
    trace.server(done("DELETE 5"), captured=False)
    for _ in range(3):
        trace.wait(300_000)
        trace.client(query("select 2"))
        trace.server(SELECTED + ready())
    trace.close()
    found = records(trace)

    assert found.columns("text") == ["delete from t", "select 2", "select 2", "select 2"]
    assert (found.columns("outcome")[0], found.columns("outcome")[-1]) == ("unknown", "ok")
    assert found.columns("coverage")[0]["reasons"]
    (gap,) = found.bodies("gap")
    assert gap["direction"] == "server_to_client"


def test_part_of_a_reply_lost() -> None:
    """The rows between are gone, the tag is there."""
    trace = opened()
    trace.client(query("select a"))
    trace.server(SELECTED[:-14] + data_row("x" * 200))
    trace.server(data_row("y" * 200), captured=False)
    trace.server(data_row("z" * 200))
    trace.server(done("SELECT 4"))
    trace.client(query("select 2"))
    trace.server(SELECTED + ready())
    trace.close()
    found = records(trace)

    assert found.columns("text") == ["select a", "select 2"]
    first = found.statements[0]
    assert first["outcome"] in ("ok", "unknown")
    assert first["outcome"] == "unknown" or first["command_tag"] == "SELECT 4"
    assert not first["coverage"]["complete"]
    assert found.statements[1]["outcome"] == "ok"


def test_cut_by_the_capture() -> None:
    trace = opened()
    trace.client(query("select '" + "x" * 500 + "'"))
    cut = len(trace.frames) - 1
    trace.server(SELECTED + ready())
    trace.close()
    found = records(truncate(trace.frames, cut, 200))

    (body,) = found.statements
    assert body["text"] is None or body["text"].startswith("select '")
    assert not body["coverage"]["complete"]
    assert body["coverage"]["bytes_lost"] > 0


def test_one_direction_only() -> None:
    """Without the replies nothing is certain, but what was asked is told."""
    trace = session(False)
    found = records([frame for frame in trace.frames if frame.direction == "client"])

    assert {text for text in found.columns("text") if text} >= set(TRUTH)
    assert set(found.columns("outcome")) == {"unknown"}


def test_joined_in_the_middle() -> None:
    trace = session(False)
    first = data_indices(trace.frames, "client")[1]
    found = records(trace.frames[first:])

    assert found[0]["session_start"]["joined"] == "mid_stream"
    assert not found[0]["session_start"]["coverage"]["complete"]
    check_truth(found)
    assert set(found.columns("text")) >= {text for text, *_ in SCRIPT[1:]}
    assert set(found.columns("effective_role")) == {None}


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_request_and_a_reply_lost(pipelined: bool) -> None:
    trace = session(pipelined)
    requests = data_indices(trace.frames, "client")[1:]
    replies = data_indices(trace.frames, "server")[1:]
    for pair in itertools.product(requests, replies):
        check_truth(records(drop(trace.frames, *pair)))
