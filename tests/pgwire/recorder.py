"""A listener that writes down every call, and a connection that is fed from a short script.

A script is a sequence of `Step`: bytes or a hole of one direction. `run` feeds it in pieces of any size, so
that a test can ask for the same calls whatever the segmentation.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from mirror_audit.counters import Budget, Counters
from mirror_audit.pgwire.connection import Connection
from mirror_audit.pgwire.listener import Listener

__all__ = ["CLIENT", "SERVER", "Call", "Recorder", "Step", "Wire", "c", "hole", "run", "s", "same"]

CLIENT: Final = 0
SERVER: Final = 1
Call = tuple[Any, ...]

# Where a method's (buf, start, end) begins among its arguments.
_TEXT_AT: Final = {
    "query": 0,
    "parse": 1,
    "command_complete": 0,
    "error_response": 0,
    "notice_response": 0,
}


class Recorder(Listener):
    """Appends (method name, arguments...) to `calls` and (message_offset, message_end) to `places`."""

    def __init__(self, refuse: Iterable[str] = ()) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.places: list[tuple[int, int]] = []
        self.refuse = frozenset(refuse)  # these calls set `out_of_step`

    def take(self, name: str, args: tuple[Any, ...]) -> None:
        """Write one call down."""
        at = _TEXT_AT.get(name)
        if at is not None:
            buf, start, end = args[at : at + 3]
            assert 0 <= start <= end <= len(buf)
            args = (*args[:at], buf[start:end], *args[at + 3 :])
        copied = tuple(list(arg) if isinstance(arg, list) else arg for arg in args)
        self.calls.append((name, *copied))
        self.places.append((self.message_offset, self.message_end))
        if name in self.refuse:
            self.out_of_step = True

    def octets(self) -> bytes:
        """All bytes that were ever told, one after the other."""
        found: list[bytes] = []
        for call in self.calls:
            for arg in call[1:]:
                found.extend([arg] if isinstance(arg, bytes) else arg if isinstance(arg, list) else [])
        return b"\xff".join(found)


def _recording(name: str) -> Callable[..., None]:
    def method(self: Recorder, *args: Any) -> None:
        self.take(name, args)

    return method


METHODS: Final = tuple(n for n, value in vars(Listener).items() if not n.startswith("_") and callable(value))
for _name in METHODS:
    setattr(Recorder, _name, _recording(_name))


@dataclass(frozen=True)
class Step:
    """`data` of a direction or, if empty, a hole of `lost` bytes; `boundary` as in `Connection.data`."""

    direction: int
    data: bytes = b""
    lost: int = 0
    boundary: int = 0


def c(data: bytes, boundary: int = 0) -> Step:
    """The client sends."""
    return Step(CLIENT, data, 0, boundary)


def s(data: bytes, boundary: int = 0) -> Step:
    """The server sends."""
    return Step(SERVER, data, 0, boundary)


def hole(direction: int, length: int) -> Step:
    """Bytes of a direction are lost."""
    return Step(direction, b"", length)


@dataclass
class Wire:
    """A connection with its recorder; `offsets` are where each direction's next byte is."""

    recorder: Recorder
    connection: Connection
    counters: Counters
    budget: Budget
    offsets: list[int] = field(default_factory=lambda: [0, 0])

    @staticmethod
    def of(
        *, mid_stream: bool = False, limit: int = 1 << 20, budget: int = 1 << 24, refuse: Iterable[str] = ()
    ) -> "Wire":
        """A new connection."""
        recorder = Recorder(refuse)
        counters = Counters()
        purse = Budget(budget)
        return Wire(recorder, Connection(recorder, mid_stream, limit, purse, counters), counters, purse)

    def feed(self, steps: Iterable[Step], size: int = 0) -> "Wire":
        """Feed a script in pieces of `size` bytes, 0 for whole steps."""
        for step in steps:
            at = self.offsets[step.direction]
            if not step.data:
                self.connection.gap(step.direction, at, step.lost, 1)
                self.offsets[step.direction] += step.lost
                continue
            boundary = step.boundary
            piece = size or len(step.data)
            for start in range(0, len(step.data), piece):
                end = min(len(step.data), start + piece)
                # Not at the start of its buffer, as in a frame.
                buf = b"\x51\x00" + step.data[start:end] + b"\x00\x5a"
                self.connection.data(step.direction, buf, 2, 2 + end - start, at + start, 1, boundary)
                boundary = 0
            self.offsets[step.direction] += len(step.data)
        return self

    def calls(self) -> list[Call]:
        """All calls so far, with what was counted."""
        self.connection.flush_counts()
        return self.recorder.calls


def run(*steps: Step, size: int = 0, **options: Any) -> Wire:
    """A new connection that was fed the script."""
    wire = Wire.of(**options).feed(steps, size)
    wire.connection.flush_counts()
    return wire


def same(*steps: Step, **options: Any) -> list[Call]:
    """The calls of a script, which must be the same, at the same places, whatever the pieces."""
    whole = run(*steps, **options)
    for size in (1, 2, 3, 5, 8):
        pieces = run(*steps, size=size, **options)
        assert pieces.recorder.calls == whole.recorder.calls, f"in pieces of {size}"
        assert pieces.recorder.places == whole.recorder.places, f"in pieces of {size}"
        for name in ("client_undecoded", "server_undecoded", "phase"):
            assert getattr(pieces.connection, name) == getattr(whole.connection, name), (name, size)
        assert pieces.budget.used == 0 or not pieces.connection.frontend.at_boundary()
    return whole.recorder.calls
