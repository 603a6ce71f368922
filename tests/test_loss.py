"""What an observer may say when packets are missing: less, but nothing that is not so.

Real conversations and made-up hostile ones are replayed with segments taken out, cut, doubled and out of
order, and compared with the whole: a statement told as complete is the very same, one that is not says so,
and no text appears that was not sent as a statement.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit import pipeline
from mirror_audit.audit.analysis import Analyser
from mirror_audit.config import Settings
from tests.support import pgmsg
from tests.support.feeding import Body, check, lines, sample_frames
from tests.support.samples import SAMPLES
from tests.support.wrap import Frame, TcpTrace, data_indices, drop, duplicate, truncate

# Masks hide what is compared here, and a text that was cut is masked more.
SHOW = Settings(redact="none")
CAPTURES = sorted(path.stem for path in SAMPLES.glob("*.pcap") if not path.stem.startswith("hostile"))
LARGE = ["asyncpg_binary", "demo", "ipv6", "pgbench_extended", "pgbench_prepared", "psycopg_extended"]
SMALL = [name for name in CAPTURES if name not in LARGE]
# Sessions that send ahead lose all that was under way, and need a pause to be found again.
PIPELINED = {
    "asyncpg_statements",
    "jdbc_batch",
    "jdbc_batch_rewritten",
    "pgbench_pipeline",
    "psql_bind_18",
    "psycopg_pipeline",
}
# The number of a transaction counts those that were seen.
FREE = {"transaction"}
# Not known is no lie. The rest is what a session's beginning or its last answer told.
MAY_BE_NULL = {"effective_role", "search_path", "transaction_before", "transaction_after"}
NAME_REASONS = {"prepared_statement_unproven", "prepared_statement_not_seen", "portal_not_seen"}


@pytest.fixture(autouse=True, scope="module")
def one_analyser() -> Iterator[None]:
    """What is known of a text does not depend on packets: analyse each once, not once a replay."""
    kept: dict[str, Analyser] = {}

    def analyser(mode: str, key: bytes | None = None) -> Analyser:
        return kept.setdefault(mode, Analyser(mode, key))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "Analyser", analyser)
        yield


def records(frames: Sequence[Frame]) -> list[Body]:
    return [json.loads(line) for line in lines(frames, SHOW)]


class Whole:
    """What the whole capture says."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames
        self.lines = lines(frames, SHOW)
        found = [json.loads(line) for line in self.lines]
        self.statements = {r["id"]: r for r in found if r["kind"] == "statement"}
        self.ends = {_end(r) for r in found if r["kind"] == "transaction_end"}
        bodies = [r["statement"] for r in self.statements.values()]
        self.texts = {body["text"] for body in bodies} | {body["prepared_text"] for body in bodies}
        self.texts.discard(None)
        # A change of client_encoding may have been lost: text of LATIN1 that is valid UTF-8 is read as such.
        self.texts |= {_taken_for_utf8(text) for text in self.texts}

    def check(self, frames: Sequence[Frame], *, joined: bool = False) -> list[Body]:
        """Replay `frames`, a damaged copy: whatever it says must be borne out by the whole."""
        found = records(frames)
        seen: set[str] = set()
        closed = {record["time"] for record in found if record["kind"] == "session_end"}
        for record in found:
            assert record["id"] not in seen, "an id came twice"
            seen.add(record["id"])
            if record["kind"] == "statement":
                self._statement(record, joined)
            elif record["kind"] == "transaction_end" and record["transaction_end"]["outcome"] != "unknown":
                # What a client left open ends with its connection, whose last packet may be the lost one.
                assert _end(record) in self.ends or record["time"] in closed
        return found

    def _statement(self, record: Body, joined: bool) -> None:
        body = record["statement"]
        coverage = body["coverage"]
        original = self.statements.get(record["id"])
        for text in (body["text"], body["prepared_text"]):
            if text is not None and text not in self.texts:
                assert not coverage["complete"], f"a statement that nobody sent: {text!r}"
                # The next statement of the Query would have followed, or the rest of a character.
                cut = text.rstrip("; \ufffd")
                assert any(other.startswith(cut) for other in self.texts), f"nobody sent {text!r}"
        if not coverage["complete"]:
            assert coverage["reasons"]
            if original is not None and not NAME_REASONS & set(coverage["reasons"]):
                told = original["statement"]["text"] or ""
                cut = (body["text"] or "").rstrip("; \ufffd")
                assert told.startswith(cut) or _taken_for_utf8(told).startswith(cut)
            return
        assert original is not None, f"complete, but not in the whole capture: {body}"
        if not joined:
            assert record["session_id"] == original["session_id"]
        for name, value in body.items():
            if name in FREE or (value is None and name in MAY_BE_NULL):
                continue
            if name in ("text", "normalized") and value == _taken_for_utf8(original["statement"][name]):
                continue
            assert value == original["statement"][name], f"{name} of {body['text']!r}"

    def affected(self, found: list[Body]) -> list[str]:
        """Statements that are missing or incomplete for more than the doubt about a name."""
        told = {r["id"]: r["statement"]["coverage"] for r in found if r["kind"] == "statement"}
        return [
            id_
            for id_, record in self.statements.items()
            if record["statement"]["coverage"]["complete"]
            and (id_ not in told or set(told[id_]["reasons"]) - NAME_REASONS)
        ]


def _end(record: Body) -> tuple[str, int, str, str]:
    return (
        record["client_address"],
        record["client_port"],
        record["time"],
        record["transaction_end"]["outcome"],
    )


def _taken_for_utf8(text: str | None) -> str:
    try:
        return (text or "").encode("latin-1").decode()
    except UnicodeError:
        return text or ""


@pytest.mark.parametrize("name", SMALL)
def test_any_one_segment_lost(name: str) -> None:
    whole = Whole(sample_frames(name))
    for index in data_indices(whole.frames):
        found = whole.check(drop(whole.frames, index))
        if name not in PIPELINED:
            # The statement itself, the one after it at whose turn decoding goes on, and their neighbours in
            # one Query.
            assert len(whole.affected(found)) <= 6, f"after losing frame {index}"


@pytest.mark.parametrize("name", LARGE)
@given(data=st.data())
def test_a_segment_of_many_lost(name: str, data: st.DataObject) -> None:
    whole = Whole(sample_frames(name))
    index = data.draw(st.sampled_from(data_indices(whole.frames)))
    found = whole.check(drop(whole.frames, index))
    assert len(whole.affected(found)) <= 6


@given(data=st.data())
def test_several_segments_lost(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(CAPTURES))
    whole = Whole(sample_frames(name))
    count = len(whole.frames)
    lost = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=8))
    burst = data.draw(st.integers(0, count - 1))
    length = data.draw(st.integers(0, 10))
    # Without its SYN a connection is one that was joined later.
    whole.check(drop(whole.frames, *lost, *range(burst, burst + length)), joined=True)


@pytest.mark.parametrize("name", CAPTURES)
def test_the_beginning_lost(name: str) -> None:
    whole = Whole(sample_frames(name))
    count = len(whole.frames)
    for start in range(1, count, max(1, count // 25)):
        whole.check(whole.frames[start:], joined=True)


@pytest.mark.parametrize("name", CAPTURES)
def test_the_end_lost(name: str) -> None:
    whole = Whole(sample_frames(name))
    count = len(whole.frames)
    for end in range(1, count, max(1, count // 25)):
        whole.check(whole.frames[:end])


@given(data=st.data())
def test_frames_cut_short(data: st.DataObject) -> None:
    whole = Whole(sample_frames(data.draw(st.sampled_from(SMALL))))
    frames = list(whole.frames)
    for index in data.draw(st.sets(st.sampled_from(data_indices(frames)), min_size=1, max_size=5)):
        kept = data.draw(st.integers(66, max(66, len(frames[index].bytes) - 1)))
        frames = truncate(frames, index, kept)
    whole.check(frames)


def by_session(found: Sequence[bytes]) -> dict[str, list[bytes]]:
    """The lines of each session, but for its end, whose time is that of the packet that came last."""
    sessions: dict[str, list[bytes]] = {}
    for line in found:
        record = json.loads(line)
        if record["kind"] != "session_end":
            sessions.setdefault(record["session_id"], []).append(line)
    return sessions


def _control(frame: Frame) -> bool:
    return bool(frame.flags & 0x07)  # what opens or ends a connection decides what the rest belongs to


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SMALL)
def test_any_order_within_the_grace(name: str, seed: int) -> None:
    frames = sample_frames(name)
    chance = random.Random(seed)
    delayed: list[tuple[int, int]] = []
    limit = frames[-1].time
    for index in range(len(frames) - 1, -1, -1):
        time = frames[index].time
        if _control(frames[index]):
            limit = time
        else:
            time = min(limit, time + chance.randrange(10 ** (seed + 2)))
        delayed.append((time, index))
    late = [frames[index] for _, index in sorted(delayed)]
    assert by_session(lines(late, SHOW)) == by_session(lines(frames, SHOW))


@pytest.mark.parametrize("name", CAPTURES)
def test_seen_twice(name: str) -> None:
    frames = sample_frames(name)
    expected = lines(frames, SHOW)
    twice = [copy for frame in frames for copy in (frame,) * (1 if _control(frame) else 2)]
    assert lines(twice, SHOW) == expected
    again: Sequence[Frame] = frames
    for index in data_indices(frames)[-2::-5]:
        if not any(map(_control, frames[index : index + 4])):
            again = duplicate(again, index, 3)
    assert by_session(lines(again, SHOW)) == by_session(expected)


# --- traps: values, texts and rows that hold whole messages where segments end ---

SECRET_DROP = "DROP TABLE planted"


def planted_requests() -> bytes:
    """Requests that were never made; nobody may be told that they were."""
    return (
        pgmsg.query(SECRET_DROP)
        + pgmsg.parse(SECRET_DROP, "")
        + pgmsg.bind()
        + pgmsg.execute()
        + pgmsg.sync()
        + pgmsg.query(SECRET_DROP)
    )


def planted_replies() -> bytes:
    """Answers that were never given."""
    return (
        pgmsg.command_complete(SECRET_DROP)
        + pgmsg.ready()
        + pgmsg.parse_complete()
        + pgmsg.bind_complete()
        + pgmsg.command_complete("SELECT 1")
        + pgmsg.ready("E")
    )


def aligned(before: bytes, plant: bytes, mss: int) -> bytes:
    """`plant` so that it begins a segment wherever the ones before end: filled up with x to the MSS."""
    return b"x" * (-len(before) % mss) + plant


def trapped(mss: int, *, pipelined: bool, pause: int = 0) -> TcpTrace:
    """A session in which each large value, text and row begins segments with planted messages."""
    trace = TcpTrace(mss=mss)
    trace.open()
    trace.client(pgmsg.startup("app", "shop"))
    trace.server(pgmsg.login())
    for turn in range(4):
        trace.wait(pause)
        head = pgmsg.parse(f"INSERT INTO t VALUES ($1) -- {turn}")
        # Up to the value of a Bind: 5 of the header, 2 names, formats, the count and the value's length.
        value = aligned(head + b"." * 15, planted_requests(), mss)
        value += aligned(head + b"." * 15 + value, planted_requests(), mss)
        value = value.replace(b"\0", b"\1") if turn % 2 else value
        batch = head + pgmsg.bind([value], formats=[1]) + pgmsg.execute() + pgmsg.sync()
        text = f"SELECT '{turn}" + aligned(b"." * 15, planted_requests(), mss).decode("latin-1")
        text = text.replace("\0", " ") + "'"
        answer = (
            pgmsg.parse_complete()
            + pgmsg.bind_complete()
            + pgmsg.command_complete("INSERT 0 1")
            + pgmsg.ready()
        )
        rows = pgmsg.row_description()
        rows += pgmsg.data_row(aligned(rows + b"." * 11, planted_replies(), mss))
        rows += pgmsg.data_row(aligned(rows + b"." * 11, planted_replies() * 3, mss))
        rows += pgmsg.command_complete("SELECT 2") + pgmsg.ready()
        if pipelined:
            trace.client(batch + pgmsg.query(text))
            trace.server(answer + rows)
        else:
            trace.client(batch)
            trace.server(answer)
            trace.client(pgmsg.query(text))
            trace.server(rows)
        # What is said afterwards shows whether decoding went on in the right place.
        trace.client(pgmsg.query(f"SELECT 'after {turn}'"))
        trace.server(pgmsg.row_description() + pgmsg.command_complete("SELECT 0") + pgmsg.ready())
    trace.client(pgmsg.terminate())
    trace.close()
    return trace


@pytest.mark.parametrize("pause", [0, 500_000])
@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("mss", [64, 100, 333, 1448])
def test_nothing_planted_is_told(mss: int, pipelined: bool, pause: int) -> None:
    whole = Whole(trapped(mss, pipelined=pipelined, pause=pause).frames)
    assert len(whole.statements) == 12
    for index in data_indices(whole.frames):
        found = whole.check(drop(whole.frames, index))
        _nothing_planted(found)
        if not pipelined:
            assert len(whole.affected(found)) <= 3
    for index in range(0, len(whole.frames), 3):
        _nothing_planted(whole.check(whole.frames[index:], joined=True))


@given(data=st.data())
def test_nothing_planted_is_told_after_many_losses(data: st.DataObject) -> None:
    mss = data.draw(st.integers(20, 200))
    whole = Whole(trapped(mss, pipelined=data.draw(st.booleans()), pause=300_000).frames)
    indices = data_indices(whole.frames)
    lost = data.draw(st.sets(st.sampled_from(indices), max_size=10))
    start = data.draw(st.sampled_from(indices))
    run = range(start, start + data.draw(st.integers(0, 9)))
    _nothing_planted(whole.check(drop(whole.frames, *lost, *run)))


def _nothing_planted(found: list[Body]) -> None:
    for record in found:
        if record["kind"] == "statement":
            body: Any = record["statement"]
            assert body["text"] is None or not body["text"].startswith("DROP")
            assert body["command_tag"] is None or not body["command_tag"].startswith("DROP")
            assert body["prepared_text"] is None


def test_time_alone_resumes_nothing() -> None:
    """A client that stops in the middle of a value, for as long as it likes, is at no boundary."""
    trace = TcpTrace()
    trace.open()
    trace.client(pgmsg.startup())
    trace.server(pgmsg.login())
    value = b"x" * 2000 + planted_requests() + b"x" * 500
    message = pgmsg.parse("INSERT INTO t VALUES ($1)") + pgmsg.bind([value], formats=[1])
    cut = message.index(planted_requests())
    trace.client(message[:cut])
    lost = len(trace.frames) - 2
    trace.ack("server")
    trace.wait(5_000_000)
    trace.client(message[cut:] + pgmsg.execute() + pgmsg.sync())
    trace.server(pgmsg.parse_complete() + pgmsg.bind_complete() + pgmsg.command_complete("INSERT 0 1"))
    trace.server(pgmsg.ready())
    trace.wait(1_000_000)
    trace.client(pgmsg.query("SELECT 'after'"))
    trace.server(pgmsg.row_description() + pgmsg.command_complete("SELECT 0") + pgmsg.ready())
    whole = Whole(trace.frames)
    for index in {lost, *data_indices(trace.frames, "client")}:
        _nothing_planted(whole.check(drop(whole.frames, index)))


@pytest.mark.parametrize("name", CAPTURES)
def test_records_of_losses_are_records(name: str) -> None:
    """Against the schema, not only against each other."""
    frames = sample_frames(name)
    indices = data_indices(frames)
    for damaged in (
        drop(frames, *indices[3::7]),
        frames[len(frames) // 2 :],
        [replace(frame, bytes=frame.bytes[:120], wire_length=frame.length) for frame in frames],
        [frame for frame in frames if frame.direction == "client"],
        [frame for frame in frames if frame.direction == "server"],
    ):
        for line in lines(damaged, SHOW):
            check(line)
