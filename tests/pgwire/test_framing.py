"""Cutting a direction into messages: any segmentation, lengths that cannot be, gaps, limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.counters import Budget
from mirror_audit.pgwire.framing import Framer, MessageSink
from mirror_audit.pgwire.messages import BACKEND_RULES, FRONTEND_RULES
from tests.support import pgmsg

Told = tuple[str, bytes, int]


class Sink(MessageSink):
    def __init__(self) -> None:
        self.told: list[Told] = []
        self.broken: list[tuple[str, int]] = []

    def message(self, direction: int, kind: int, buf: bytes, start: int, end: int, missing: int) -> None:
        self.told.append((chr(kind), buf[start:end], missing))

    def framing_broken(self, direction: int, kind: int, length: int) -> None:
        self.broken.append((chr(kind), length))


class Frames:
    """A framer and what came out of it."""

    def __init__(self, rules: bytes = FRONTEND_RULES, limit: int = 1 << 20, budget: int = 1 << 30) -> None:
        self.sink = Sink()
        self.budget = Budget(budget)
        self.framer = Framer(self.sink, 0, rules, limit, self.budget)
        self.offset = 0
        self.time = 0

    def feed(self, data: bytes, step: int = 0) -> "Frames":
        step = step or max(1, len(data))
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            self.time += 1
            self.framer.feed(b"??" + piece + b"??", 2, 2 + len(piece), self.offset, self.time)
            self.offset += len(piece)
        return self

    def gap(self, length: int) -> bool:
        self.offset += length
        return self.framer.gap(length)

    @property
    def told(self) -> list[Told]:
        return self.sink.told


def body(message: bytes) -> bytes:
    return message[5:]


MESSAGES = [
    pgmsg.query("SELECT 1"),
    pgmsg.sync(),
    pgmsg.parse("SELECT $1", "s", [25]),
    pgmsg.bind(["x" * 300], name="s"),
    pgmsg.execute(),
    pgmsg.query(""),
    pgmsg.terminate(),
]


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 5, 6, 7, 11, 64])
def test_any_segmentation(step: int) -> None:
    frames = Frames().feed(b"".join(MESSAGES), step)
    assert frames.told == [(message[:1].decode(), body(message), 0) for message in MESSAGES]
    assert frames.framer.at_boundary()
    assert frames.budget.used == 0


@given(st.data())
def test_cuts_anywhere(data: st.DataObject) -> None:
    stream = b"".join(MESSAGES)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1))))
    frames = Frames()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames.feed(stream[start:end])
        assert frames.framer.at_boundary() == (end in {0, *_ends(MESSAGES)})
    assert frames.told == [(message[:1].decode(), body(message), 0) for message in MESSAGES]


def _ends(messages: list[bytes]) -> list[int]:
    ends = []
    at = 0
    for message in messages:
        at += len(message)
        ends.append(at)
    return ends


def test_offsets_and_times_are_those_of_the_message() -> None:
    class Watch(Sink):
        def message(self, direction: int, kind: int, buf: bytes, start: int, end: int, missing: int) -> None:
            framer = frames.framer
            seen.append((framer.message_offset, framer.message_end, framer.message_time, framer.time))

    seen: list[tuple[int, int, int, int]] = []
    frames = Frames()
    frames.framer.sink = Watch()
    first, second = pgmsg.query("SELECT 1"), pgmsg.query("SELECT 22")
    stream = first + second
    for start, end in ((0, 4), (4, 16), (16, len(stream))):
        frames.feed(stream[start:end])
    assert seen == [(0, len(first), 1, 2), (len(first), len(stream), 2, 3)]


@pytest.mark.parametrize("step", [0, 1, 3])
def test_rows_and_copy_data_are_counted_only(step: int) -> None:
    rows = pgmsg.rows(["a"], [None], ["x" * 500]) + pgmsg.data_row()
    copied = pgmsg.copy_data("12345") + pgmsg.copy_data("") + pgmsg.copy_data("x" * 300)
    frames = Frames(BACKEND_RULES).feed(pgmsg.row_description() + rows + copied + pgmsg.ready(), step)
    assert frames.told == [("T", b"", 0), ("Z", b"I", 0)]
    assert frames.framer.rows == 4
    assert frames.framer.first_row_offset == len(pgmsg.row_description())
    assert (frames.framer.copy_rows, frames.framer.copy_bytes) == (3, 305)


IMPOSSIBLE = [
    # A length must count itself.
    *[(FRONTEND_RULES, kind, length) for kind in "QPBFCDEd" for length in (3, 0, -1, -(1 << 31))],
    *[(BACKEND_RULES, kind, length) for kind in "CDEGHKNRSTVWdtv" for length in (3, 0, -1, -(1 << 31))],
    # ... and be one that the real peer takes.
    *[(FRONTEND_RULES, kind, 10_005) for kind in "CDEHSXcf"],
    (FRONTEND_RULES, "p", 65_541),
    *[(FRONTEND_RULES, kind, (1 << 30) + 4) for kind in "QPBFd"],
    *[(BACKEND_RULES, kind, length) for kind in "123Icns" for length in (3, 5, 1 << 20)],
    *[(BACKEND_RULES, "Z", length) for length in (4, 6, 0x7FFFFFFF)],
    *[(BACKEND_RULES, kind, 65_541) for kind in "CGHKRSWv"],
    *[(BACKEND_RULES, kind, (1 << 30) + 4) for kind in "ADEdNtTV"],
    (BACKEND_RULES, "D", 5),
    # Types that nobody knows.
    *[(FRONTEND_RULES, kind, 8) for kind in "\x00\x01\n /:@[`{\x7f\x80\xff"],
    (FRONTEND_RULES, "y", 3),
    (FRONTEND_RULES, "y", (1 << 20) + 1),
]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(("rules", "kind", "length"), IMPOSSIBLE)
def test_impossible_lengths(rules: bytes, kind: str, length: int, step: int) -> None:
    good = pgmsg.sync() if rules is FRONTEND_RULES else pgmsg.ready()
    frames = Frames(rules).feed(good + pgmsg.message(kind.encode("latin-1"), b"", length) + good, step)
    assert len(frames.told) == 1, "nothing behind it is read"
    assert frames.sink.broken == [(kind, length)]
    assert frames.framer.stopped
    assert not frames.framer.at_boundary()
    assert not frames.gap(5)
    frames.framer.reset()
    frames.feed(good, step)
    assert len(frames.told) == 2


LONGEST = [
    *[(FRONTEND_RULES, kind, 10_004) for kind in "CDEHSXcf"],
    (FRONTEND_RULES, "p", 65_540),
    (FRONTEND_RULES, "Q", (1 << 30) + 3),
    (FRONTEND_RULES, "d", (1 << 30) + 3),
    (FRONTEND_RULES, "y", 1 << 20),
    (BACKEND_RULES, "D", (1 << 30) + 3),
    (BACKEND_RULES, "S", 65_540),
    (BACKEND_RULES, "E", (1 << 30) + 3),
]


@pytest.mark.parametrize(("rules", "kind", "length"), LONGEST)
def test_longest_lengths(rules: bytes, kind: str, length: int) -> None:
    frames = Frames(rules, limit=100).feed(pgmsg.message(kind, b"", length))
    assert not frames.sink.broken
    assert frames.framer.remaining == length - 4


def test_unknown_types_are_counted_and_passed_over() -> None:
    frames = Frames().feed(pgmsg.message("y", b"abc") + pgmsg.message("7") + pgmsg.sync())
    assert frames.told == [("y", b"abc", 0), ("7", b"", 0), ("S", b"", 0)]
    assert frames.framer.unknown == 2


@pytest.mark.parametrize("step", [1, 10, 99, 100, 101, 1000])
def test_a_long_message_keeps_its_beginning(step: int) -> None:
    long = pgmsg.query("x" * 5000)
    frames = Frames(limit=100).feed(long + pgmsg.sync(), step)
    assert frames.told == [("Q", b"x" * 100, 4901), ("S", b"", 0)]
    assert frames.framer.over_limit == 1
    assert frames.budget.used == 0


def test_a_message_that_lies_whole_in_a_segment_has_no_limit() -> None:
    assert Frames(limit=100).feed(pgmsg.query("x" * 5000)).told == [("Q", b"x" * 5000 + b"\0", 0)]


def test_the_budget_of_all_sessions() -> None:
    frames = Frames(budget=150)
    frames.feed(pgmsg.query("x" * 999)[:105])
    assert frames.budget.used == 100
    frames.feed(b"x" * 100)  # does not fit any more
    assert frames.budget.used == 100
    frames.feed(b"x" * 20)  # would fit, but would not follow on what was kept
    frames.feed(b"x" * 779 + b"\0" + pgmsg.sync())
    assert frames.told == [("Q", b"x" * 100, 900), ("S", b"", 0)]
    assert frames.framer.over_budget >= 1
    assert frames.budget.used == 0


@pytest.mark.parametrize("end", ["reset", "close"])
def test_the_budget_is_given_back(end: str) -> None:
    frames = Frames(budget=1000).feed(pgmsg.query("x" * 500)[:200])
    assert frames.budget.used == 195
    getattr(frames.framer, end)()
    assert frames.budget.used == 0


# A gap of `length` bytes at `at`, in three Query messages of 19 bytes: what is told, whether it goes on.
FIRST, SECOND, THIRD = (pgmsg.query(f"SELECT '{i}11'") for i in "abc")
SIZE = len(FIRST)


def _expected(at: int, length: int) -> list[Told] | None:
    """By the rule: a hole inside a body costs that message; any other hole ends the framing."""
    start, inside = divmod(at, SIZE)
    whole = [("Q", body(message), 0) for message in (FIRST, SECOND, THIRD)]
    if inside < 5 or inside + length > SIZE:
        return None
    message = (FIRST, SECOND, THIRD)[start]
    cut: Told = ("Q", message[5:inside], SIZE - inside)
    return [*whole[:start], cut, *whole[start + 1 :]]


@pytest.mark.parametrize("step", [0, 1, 4])
def test_every_gap(step: int) -> None:
    stream = FIRST + SECOND + THIRD
    for at in range(len(stream)):
        for length in range(1, len(stream) - at + 1):
            frames = Frames()
            if at:
                frames.feed(stream[:at], step)
            goes_on = frames.gap(length)
            expected = _expected(at, length)
            assert goes_on == (expected is not None), (at, length)
            if stream[at + length :]:
                frames.feed(stream[at + length :], step)
            if expected is None:
                whole = [("Q", body(message), 0) for message in (FIRST, SECOND, THIRD)]
                assert frames.told == whole[: at // SIZE], (at, length)
            else:
                assert frames.told == expected, (at, length)
            assert frames.budget.used == 0 or not goes_on


def test_several_gaps_in_one_message() -> None:
    frames = Frames().feed(pgmsg.query("x" * 100)[:15])
    assert frames.gap(20)
    frames.feed(b"y" * 10)
    assert frames.gap(56)
    frames.feed(b"z" * 5 + pgmsg.sync())
    assert frames.told == [("Q", b"x" * 10, 91), ("S", b"", 0)]


def test_a_gap_in_rows_costs_no_framing() -> None:
    row = pgmsg.data_row("x" * 100)
    frames = Frames(BACKEND_RULES).feed(row[:50])
    assert frames.gap(len(row) - 50)
    frames.feed(row + pgmsg.ready())
    assert frames.framer.rows == 2
    assert frames.told == [("Z", b"I", 0)]


@given(st.lists(st.one_of(st.binary(max_size=30), st.integers(1, 50)), max_size=10), st.booleans())
def test_hostile_bytes_and_gaps(parts: list[bytes | int], frontend: bool) -> None:
    frames = Frames(FRONTEND_RULES if frontend else BACKEND_RULES, limit=64, budget=100)
    for part in parts:
        if isinstance(part, int):
            frames.gap(part)
        elif part:
            frames.feed(part)
    assert frames.framer.remaining >= 0
    assert 0 <= frames.budget.used <= 100
    frames.framer.close()
    assert frames.budget.used == 0
