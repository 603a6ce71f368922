"""`replay`: records of files, lazily and to the last one before any damage."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror_audit.audit.bodies import SessionEnd
from mirror_audit.audit.record import Record
from mirror_audit.config import Settings
from mirror_audit.errors import CaptureError, ConfigError
from mirror_audit.replay import expand, replay
from tests.cli.captures import login_and_error, session, write
from tests.support import pgmsg
from tests.support.wrap import Frame, TcpTrace, pcap_bytes


def kinds(records: Iterator[Record]) -> list[str]:
    return [record.kind for record in records]


def test_records(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", session().frames)
    records = list(replay(path))

    assert [record.kind for record in records] == ["session_start", "statement", "session_end"]
    statement = records[1].statement
    assert statement is not None
    assert (statement.text, statement.rows, statement.outcome) == ("SELECT 1", 1, "ok")
    assert (records[1].user, records[1].database) == ("app", "shop")
    assert records == list(replay(str(path))), "the same again, with the same identifiers"


def test_several_files_are_one_stream(tmp_path: Path) -> None:
    frames = session().frames
    first, second = write(tmp_path / "1.pcap", frames[:7]), write(tmp_path / "2.pcap", frames[7:])

    assert kinds(replay(first, second)) == ["session_start", "statement", "session_end"]
    assert kinds(replay(tmp_path / "?.pcap")) == ["session_start", "statement", "session_end"]


def test_damage_is_raised_after_all_records_before_it(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap_bytes(session().frames)[:-100])
    other = write(tmp_path / "other.pcap", login_and_error().frames)
    records: list[Record] = []

    with pytest.raises(CaptureError, match="ends in the middle") as caught:
        records.extend(replay(path, other))

    assert caught.value.packet > 0
    assert {record.user for record in records} == {"app"}, "what comes after the damage is not read"


def test_damage_gives_its_records_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap_bytes(session().frames)[:-100])
    found: list[str] = []
    records = replay(path)

    with pytest.raises(CaptureError):
        found.extend(record.kind for record in records)
    assert found[:2] == ["session_start", "statement"]
    assert found[-1] == "session_end"
    assert next(records, None) is None


@pytest.mark.parametrize("name", ["missing.pcap", "none*.pcap", "."])
def test_unusable_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError):
        next(replay(f"{tmp_path}/{name}"))


def test_options_are_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", session(server_port=6543).frames)

    assert kinds(replay(path)) == []
    wanted = ["session_start", "statement", "session_end"]
    assert kinds(replay(path, server_ports=(6543,))) == wanted
    assert kinds(replay(path, settings=Settings(auto_ports=True))) == wanted


@pytest.mark.parametrize(
    "options",
    [
        {"server_ports": (0,)},
        {"settings": Settings(), "auto_ports": True},
    ],
)
def test_wrong_settings_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replay("x.pcap", **options)


def many_statements(count: int) -> Iterator[Frame]:
    trace = TcpTrace(acks=False, timestamps=False)
    trace.open()
    trace.client(pgmsg.startup("app", "shop"))
    trace.server(pgmsg.login())
    for _ in range(count):
        trace.client(pgmsg.query("SELECT 1"))
        trace.server(pgmsg.command_complete("SELECT 1") + pgmsg.ready())
        yield from trace.frames
        trace.frames.clear()


def test_lazy(tmp_path: Path) -> None:
    # Three blocks of a file whose end is damaged: the first records come without reading as far as that.
    path = tmp_path / "long.pcap"
    path.write_bytes(pcap_bytes(many_statements(15_000))[:-1])
    assert path.stat().st_size > 2 << 20
    records = replay(path)

    first = list(itertools.islice(records, 100))
    assert [record.kind for record in first[:3]] == ["session_start", "statement", "statement"]
    rest: list[Record] = []
    with pytest.raises(CaptureError):
        rest.extend(records)
    end = rest[-1].body
    assert isinstance(end, SessionEnd)
    assert end.statements >= 14_999


def test_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.pcap", "x.pcap1", "x.pcap2", "x.pcap10", "y[1].pcap", "y1.pcap"):
        (tmp_path / name).touch()

    assert expand(["x.pcap*"]) == ["x.pcap", "x.pcap1", "x.pcap2", "x.pcap10"]
    assert expand(["y[1].pcap"]) == ["y[1].pcap"], "a name that exists is no pattern"
    assert expand(["y?.pcap", "-", "none*", "missing"]) == ["y1.pcap", "-", "none*", "missing"]
    assert expand(["x.pcap", "x.pcap"]) == ["x.pcap", "x.pcap"]
    assert expand([]) == []
