"""What `replay` tells on standard error: a line that moves while it works, and a summary at the end."""

import time
from collections.abc import Mapping
from typing import Final, TextIO

from mirror_audit.capture.files import CaptureFile
from mirror_audit.sinks.table import fit

__all__ = ["Progress", "summary"]

_INTERVAL_S: Final = 0.2
_BAR: Final = 20
# Counters of a limit that was reached, and of sessions that could not be read in full: worth a line if not 0.
_NOTABLE: Final = (
    "logins_failed",
    "sessions_mid_stream",
    "encrypted_sessions",
    "undecodable_streams",
    "statements_incomplete",
    "truncated_packets",
    "differing_overlaps",
    "clock_steps",
    "held_limit_hits",
    "flows_evicted",
    "flows_idle_timeout",
    "prepared_evicted",
    "portals_evicted",
    "outstanding_limit_hits",
    "messages_over_limit",
    "buffer_budget_hits",
    "texts_truncated",
    "parameters_truncated",
    "cancel_keys_evicted",
    "statements_emitted_early",
    "damaged_messages",
    "malformed_messages",
    "unknown_messages",
)


class Progress:
    """One line on a terminal, drawn anew a few times a second."""

    def __init__(self, stream: TextIO, width: int) -> None:
        self._stream = stream
        self._width = width - 1
        self._start = time.monotonic()
        self._next = self._start
        self._shown = False
        self._done = 0
        self._current: CaptureFile | None = None

    def update(self, capture: CaptureFile) -> None:
        """Show how far `capture` has been read."""
        if self._current is not None and self._current is not capture:
            self._done += int(self._current.packets)
        self._current = capture
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _INTERVAL_S
        packets = int(self._done + capture.packets)
        rate = packets / max(now - self._start, 1e-6)
        bar = _bar(capture.bytes_read, capture.bytes_total)
        line = fit(f"{bar} {packets:,} packets, {rate:,.0f}/s {capture.source}", self._width)
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away, for other text."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


def _bar(read: int, total: int | None) -> str:
    if not total:
        return f"{read / 1e6:,.1f} MB"
    part = min(read / total, 1.0)
    return f"[{'#' * round(part * _BAR):<{_BAR}}] {part:4.0%}"


def summary(counters: Mapping[str, int], seconds: float) -> str:
    """The closing lines: what was read, what was found, what was not seen or not used and why."""
    packets = counters.get("packets", 0)
    found = ", ".join(_count(counters, name) for name in ("sessions", "statements", "errors"))
    unseen = f"{counters.get('bytes_lost', 0):,} bytes not seen in {_count(counters, 'gaps')}"
    rate = packets / max(seconds, 1e-6)
    noun = "packet" if packets == 1 else "packets"
    lines = [f"{packets:,} {noun} in {seconds:.2f} s ({rate:,.0f}/s): {found}; {unseen}"]
    dropped = [
        f"{number:,} ({_spaced(name.removeprefix('dropped_'))})"
        for name, number in counters.items()
        if name.startswith("dropped_") and number
    ]
    if dropped:
        lines.append(f"not used: {', '.join(dropped)}")
    notable = [f"{_spaced(name)}: {counters[name]:,}" for name in _NOTABLE if counters.get(name)]
    if notable:
        lines.append(f"note: {', '.join(notable)}")
    return "\n".join(lines)


def _count(counters: Mapping[str, int], plural: str) -> str:
    number = counters.get(plural, 0)
    return f"{number:,} {plural.removesuffix('s') if number == 1 else plural}"


def _spaced(name: str) -> str:
    return name.replace("_", " ")
