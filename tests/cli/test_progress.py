"""The summary says what was not seen and not used."""

import io
from pathlib import Path

import pytest

from mirror_audit.capture.files import open_capture
from mirror_audit.capture.frames import FrameSink
from mirror_audit.cli import progress
from mirror_audit.cli.progress import Progress, summary
from mirror_audit.counters import COUNTER_NAMES
from tests.cli.captures import session, write


def test_summary() -> None:
    counters = {
        "packets": 12_345,
        "sessions": 1,
        "statements": 2_000,
        "errors": 1,
        "gaps": 2,
        "bytes_lost": 1_448,
        "dropped_other_port": 7,
        "dropped_not_tcp": 0,
        "dropped_malformed": 1_000,
        "flows_evicted": 3,
        "encrypted_sessions": 4,
        "prepared_evicted": 0,
    }

    assert summary(counters, 0.5).splitlines() == [
        (
            "12,345 packets in 0.50 s (24,690/s): 1 session, 2,000 statements, 1 error; "
            "1,448 bytes not seen in 2 gaps"
        ),
        "not used: 7 (other port), 1,000 (malformed)",
        "note: encrypted sessions: 4, flows evicted: 3",
    ]


def test_summary_of_nothing() -> None:
    assert summary({}, 0.0) == (
        "0 packets in 0.00 s (0/s): 0 sessions, 0 statements, 0 errors; 0 bytes not seen in 0 gaps"
    )


def test_notable_counters_exist() -> None:
    assert set(progress._NOTABLE) <= set(COUNTER_NAMES)


def test_every_limit_is_notable() -> None:
    limits = {
        name
        for name in COUNTER_NAMES
        if name.endswith(("_evicted", "_hits", "_over_limit", "_truncated", "_timeout"))
    }

    assert {name for name in limits if not name.startswith("dropped_")} <= set(progress._NOTABLE)


class Ignore(FrameSink):
    """A sink that needs no frames."""

    def frame(self, buf: bytes, start: int, end: int, wire_length: int, link_type: int, time: int) -> None:
        pass


def test_progress_over_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = Progress(stream, 80)
    frames = session().frames
    for name in ("a.pcap", "b.pcap"):
        with open_capture(str(write(tmp_path / name, frames))) as capture:
            while capture.read_block(Ignore()):
                now[0] += 1
                shown.update(capture)
                shown.update(capture)
    shown.clear()
    shown.clear()

    first, second, cleared = stream.getvalue().split("\r\x1b[K")[1:]
    assert f"[####################] 100% {len(frames)} packets, {len(frames)}/s " in first
    assert f"100% {2 * len(frames)} packets, {len(frames)}/s " in second
    assert max(len(first), len(second)) <= 79
    assert cleared == ""
