"""Records as a table for people: one line a record, 80 to 200 columns wide.

The table shows what fits; nothing should parse it (JSON lines are for that). Text comes from strangers, so
whatever could move a terminal's cursor, change its state or reorder what is read is shown as an escape:
control characters, bidirectional controls, invisible and unassigned characters.
"""

import os
import shutil
import unicodedata
from collections.abc import Mapping
from typing import Final, TextIO

from mirror_audit.audit.record import Record
from mirror_audit.errors import SinkError
from mirror_audit.sinks.jsonl import OutputClosedError
from mirror_audit.sinks.words import describe

__all__ = ["TableSink", "cell_width", "fit", "printable", "terminal_width", "wants_colour"]

MIN_WIDTH: Final = 80
MAX_WIDTH: Final = 200
# Below this the client's address has no column of its own; lines about sessions still tell it.
_CLIENT_FROM: Final = 100

_RED: Final = "\x1b[31m"
_YELLOW: Final = "\x1b[33m"
_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"
_COLOURS: Final = {"bad": _RED, "warning": _YELLOW, "session": _DIM}


class TableSink:
    """Write records as table lines to a text stream, which stays its owner's."""

    def __init__(self, stream: TextIO, width: int = 120, colour: bool = False) -> None:
        self._stream = stream
        self._width = min(max(width, MIN_WIDTH), MAX_WIDTH)
        self._colour = colour
        self._date = ""
        self._columns = _columns(self._width)

    def write(self, batch: bytes) -> None:
        """Write the records of a batch. Raises `OutputClosedError` on a closed pipe, else `SinkError`."""
        lines: list[str] = []
        for line in batch.split(b"\n"):
            if line:
                self._render(Record(line), lines)
        encoding = self._stream.encoding or "utf-8"
        text = "".join(f"{line}\n" for line in lines)
        try:
            # A terminal that does not take all of Unicode gets escapes, not a failure.
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()
        except BrokenPipeError:
            raise OutputClosedError("standard output: closed by its reader") from None
        except OSError as error:
            raise SinkError(f"standard output: cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Nothing is pending: each batch is flushed."""

    def _render(self, record: Record, lines: list[str]) -> None:
        envelope = record.envelope
        date, _, time = envelope.time.rstrip("Z").partition("T")
        if not self._date:
            lines.append(self._row([name for name, _, _ in self._columns], "session"))
        if date != self._date:
            self._date = date
            lines.append(self._painted(f"-- {printable(date)} (UTC) --", "session"))
        words = describe(record)
        address = envelope.client_address
        client = ""
        who = ""
        if address is not None:
            host = f"[{address}]" if ":" in address else address
            client = f"{host}:{envelope.client_port}"
            who = f"{envelope.user or '?'}@{envelope.database or '?'}"
        values = {
            "time": time[: self._columns[0][1]],
            "client": client,
            "user@database": who,
            "outcome": words.label,
            "what": words.what,
            "rows": "" if words.rows is None else _short(words.rows),
            "ms": "" if words.duration_us is None else _milliseconds(words.duration_us),
        }
        lines.append(self._row([values[name] for name, _, _ in self._columns], words.tone))

    def _row(self, values: list[str], tone: str) -> str:
        cells = []
        for (name, width, to_the_right), value in zip(self._columns, values, strict=True):
            text = fit(value, width)
            pad = " " * (width - cell_width(text))
            cell = pad + text if to_the_right else text + pad
            cells.append(self._painted(cell, tone) if tone == "session" or name == "outcome" else cell)
        return " ".join(cells).rstrip()

    def _painted(self, text: str, tone: str) -> str:
        colour = _COLOURS.get(tone) if self._colour else None
        return text if colour is None else f"{colour}{text}{_RESET}"


def printable(text: str) -> str:
    """`text` on one line: runs of white space are one space, what is not printable is an escape."""
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def cell_width(text: str) -> int:
    """Columns of a terminal that printable `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def fit(text: str, width: int) -> str:
    """`text` made printable and cut to `width` columns, with ``...`` where something is missing."""
    # Each character takes a column or is rare; this bounds the work for a text of 64 KiB.
    head = text[: 8 * width]
    shown = printable(head)
    if cell_width(shown) <= width and len(head) == len(text):
        return shown
    room = width - 3
    used = 0
    for i, char in enumerate(shown):
        used += _char_width(char)
        if used > room:
            return shown[:i] + "..."
    return shown + "..."


def terminal_width() -> int:
    """Columns of the terminal, or $COLUMNS; 120 if there is neither."""
    return shutil.get_terminal_size(fallback=(120, 24)).columns


def wants_colour(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Colours go to a terminal only, and not if NO_COLOR is set (https://no-color.org) or TERM is dumb."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def _columns(width: int) -> list[tuple[str, int, bool]]:
    """(name, width, aligned to the right) of each column; "what" takes what the others leave."""
    narrow = width < _CLIENT_FROM
    fixed = {
        "time": 8 if narrow else 12,
        "client": 0 if narrow else 21,
        "user@database": 14 if narrow else 20,
        "outcome": 9,
        "what": 0,
        "rows": 5,
        "ms": 8,
    }
    names = [name for name in fixed if fixed[name] or name == "what"]
    fixed["what"] = width - sum(fixed.values()) - (len(names) - 1)
    return [(name, fixed[name], name in ("rows", "ms")) for name in names]


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _short(number: int) -> str:
    if number < 100_000:
        return str(number)
    for unit, size in (("k", 10**3), ("M", 10**6), ("G", 10**9), ("T", 10**12)):
        if number < 100 * size:
            return f"{number * 10 // size / 10}{unit}"
        if number < 1000 * size:
            return f"{number // size}{unit}"
    return "many"


def _milliseconds(duration_us: int) -> str:
    if duration_us < 1_000_000_000:
        return f"{duration_us / 1000:.1f}"
    return f"{_short(duration_us // 1_000_000)}s"
