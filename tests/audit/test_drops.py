"""Packets that could not be read at all are told in gap records that belong to no session."""

from mirror_audit.config import Settings
from mirror_audit.pipeline import Pipeline
from tests.audit.conversation import SELECTED, opened, records
from tests.support.pgmsg import query, ready
from tests.support.wrap import START, Frame, TcpTrace

BROKEN = bytes(12) + b"\x08\x00" + b"\x45\x00\xff"  # IPv4 whose header ends after three bytes


def session() -> TcpTrace:
    trace = opened()
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())
    trace.close()
    return trace


def test_nothing_dropped() -> None:
    assert not records(session()).bodies("gap")


def test_malformed_packets() -> None:
    frames = session().frames
    broken = [Frame(START + n, BROKEN, "client") for n in range(3)]
    found = records([*frames[:4], *broken, *frames[4:]])
    (gap,) = [one for one in found if one["kind"] == "gap"]

    assert gap["gap"] == {
        "direction": None,
        "bytes": 0,
        "gaps": 3,
        "cause": "malformed",
        "offset_seq": None,
        "bytes_undecoded": 0,
        "recovered": True,
    }
    nobody = ("session_id", "network", "client_address", "server_port", "user", "backend_pid")
    assert {gap[name] for name in nobody} == {None}
    assert found.columns("outcome") == ["ok"]
    assert found.counters["dropped_malformed"] == 3


def test_many_are_told_once_a_minute() -> None:
    frames = [Frame(START + n * 1_000_000, BROKEN, "client") for n in range(180)]
    found = records([*frames, *session().frames])

    told = [gap["gaps"] for gap in found.bodies("gap")]
    assert sum(told) == 180
    assert len(told) <= 5
    assert len(set(found.ids())) == len(found)


def test_link_type() -> None:
    lines: list[bytes] = []
    pipeline = Pipeline(Settings(), lines.append)
    pipeline.frames.frame(bytes(60), 0, 60, 60, 9999, START)
    pipeline.close()

    assert b'"cause":"link_type"' in b"".join(lines)
    assert pipeline.counters()["dropped_link_type"] == 1
