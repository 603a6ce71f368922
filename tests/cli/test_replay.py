"""`mirror-audit replay`, from its options to its exit codes."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mirror_audit.audit.record import Record
from mirror_audit.cli.main import main
from mirror_audit.config import Limits
from tests.cli.captures import login_and_error, session, write
from tests.require import require
from tests.support.wrap import wrapped


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["replay", *map(str, arguments)], prog_name="mirror-audit")


def records(text: str) -> list[Record]:
    return [Record.from_json(line.encode()) for line in text.splitlines()]


def texts(text: str) -> list[str | None]:
    return [record.statement.text for record in records(text) if record.statement is not None]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "good.pcap", session().frames)


@pytest.fixture
def both(tmp_path: Path) -> Path:
    return write(tmp_path / "both.pcap", session().frames + login_and_error().frames)


def test_records_and_summary(good: Path) -> None:
    result = run(good)

    assert result.exit_code == 0
    assert [record.kind for record in records(result.stdout)] == ["session_start", "statement", "session_end"]
    assert len(result.stderr.splitlines()) == 1
    packets = len(session().frames)
    assert result.stderr.startswith(f"{packets} packets in ")
    assert result.stderr.endswith("1 session, 1 statement, 0 errors; 0 bytes not seen in 0 gaps\n")


def test_quiet(good: Path) -> None:
    assert run(good, "--quiet").stderr == ""


def test_output_is_the_same_to_a_file(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    result = run(good, "--write", path)

    assert path.read_text() == result.stdout
    assert run(good, "--write", path, "--output", "none").stdout == ""
    assert path.read_text() == result.stdout


def test_table(good: Path) -> None:
    result = run(good, "--output", "table")

    header, date, login, statement, logout = result.stdout.splitlines()
    assert header.split()[0] == "time"
    assert date.startswith("-- 20")
    assert ("login" in login, "SELECT 1" in statement, "logout" in logout) == (True, True, True)


def test_table_of_hostile_text(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = run(both, "--output", "table", "--errors-only")

    assert r'42501 permission denied | DROP TABLE "\x1b[2Jorders"' in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (["--user", "app"], ["session_start", "statement", "session_end"]),
        (["--user", "app", "--user", "eve", "--kind", "statement"], ["statement", "statement"]),
        (["--user", "app", "--database", "books"], []),
        (
            ["--kind", "session_start", "--kind", "session_end", "--user", "eve"],
            ["session_start", "session_end"],
        ),
        (["--errors-only"], ["statement"]),
        (["--grep", "(?i)^select"], ["statement"]),
        (["--since", "2026-09-21T14:14"], ["session_start", "statement", "session_end"]),
        (["--until", "2026-09-21T16:14+02:00", "--kind", "statement"], ["statement"]),
        (["--until", "2026-09-21"], []),
    ],
)
def test_filters(both: Path, tmp_path: Path, options: list[str], kinds: list[str]) -> None:
    result = run(both, *options, "--write", tmp_path / "out.jsonl")

    assert [record.kind for record in records(result.stdout)] == kinds
    assert (tmp_path / "out.jsonl").read_text() == result.stdout
    assert "2 sessions, 2 statements, 1 error;" in result.stderr, "the summary is of all that was read"


def test_session_across_rotated_files(tmp_path: Path) -> None:
    frames = session().frames
    for number, part in [("2", frames[:6]), ("10", frames[6:])]:
        write(tmp_path / f"x.pcap{number}", part)

    result = run(tmp_path / "x.pcap*")
    whole = run(write(tmp_path / "whole.pcap", frames))

    assert result.stdout == whole.stdout


def test_vxlan_options(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pcap", session().wrapped(7) + wrapped(session(41000).frames, 8))

    assert {record.envelope.network for record in records(run(path).stdout)} == {"vni-7", "vni-8"}
    result = run(path, "--network", "prod=7", "--network", "test=8,9")
    assert {record.envelope.network for record in records(result.stdout)} == {"prod", "test"}
    other = run(path, "--vxlan-port", "8472")
    assert records(other.stdout) == []
    assert "not used: " in other.stderr


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], 0),
        (["--server-port", "6543"], 1),
        (["--server-port", "5432", "--server-port", "6543"], 1),
        (["--server-port", "auto"], 1),
        (["--server-port", "auto", "--server-port", "7000"], 1),
    ],
)
def test_server_port(tmp_path: Path, options: list[str], found: int) -> None:
    path = write(tmp_path / "x.pcap", session(server_port=6543).frames)

    assert len(texts(run(path, *options).stdout)) == found


def test_bad_files_do_not_stop_the_others(good: Path, tmp_path: Path) -> None:
    names = {
        "empty": b"",
        "text": b"hello world, this is a text file\n",
        "cut": good.read_bytes()[:-20],
        "noise": b"\x00\x01\x02\x03" * 10,
    }
    for name, data in names.items():
        (tmp_path / name).write_bytes(data)
    missing, directory = tmp_path / "missing", tmp_path / "directory"
    directory.mkdir()
    bad = [tmp_path / name for name in names] + [missing, directory, tmp_path / "none*.pcap"]

    other = write(tmp_path / "other.pcap", session(41000, user="eve").frames)

    result = run(*bad[:3], other, *bad[3:])

    lines = result.stderr.splitlines()
    assert result.exit_code == 2
    assert len(lines) == len(bad) + 1
    for path, line in zip(bad, lines, strict=False):
        assert line.startswith(f"mirror-audit: {path}: ")
    for line, reason in zip(lines, ["is empty", "starts with text", "ends in the middle"], strict=False):
        assert reason in line
    assert "whole packets" in lines[2]
    assert lines[-1].endswith("in 0 gaps")
    assert {record.user for record in records(result.stdout)} == {"app", "eve"}


def test_damaged_file_gives_what_is_before_the_damage(good: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pcap").write_bytes(good.read_bytes()[:-20])

    result = run(tmp_path / "cut.pcap")

    assert result.exit_code == 2
    assert texts(result.stdout) == ["SELECT 1"]


def test_compressed(good: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(good.read_bytes()))

    assert run(tmp_path / "x.gz").stdout == run(good).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Missing argument 'FILE...'"),
        (["x", "--output", "xml"], "'xml' is not one of"),
        (["x", "--kind", "sap"], "'sap' is not one of"),
        (["x", "--since", "yesterday"], "'yesterday' is not a time such as"),
        (["x", "--until", "0001-01-01T00:00+10:00"], "is not a time such as"),
        (["x", "--grep", "("], "'(' is not a regular expression: missing )"),
        (["x", "--server-port", "http"], "'http' is neither a port from 1 to 65535 nor auto"),
        (["x", "--server-port", "65536"], "'65536' is neither a port"),
        (["x", "--vxlan-port", "0"], "0 is not in the range"),
        (["x", "--vxlan-port", "6081"], "UDP port 6081 cannot be both VXLAN and Geneve"),
        (["x", "--network", "prod"], "'prod' is not of the form NAME=VNI"),
        (["x", "--network", "prod=1,b"], "'prod=1,b' is not of the form NAME=VNI"),
        (["x", "--network", "prod=16777216"], "16777216 is not a VNI"),
        (["x", "--network", "a=1", "--network", "b=1"], "--network names VNI 1 twice: a and b"),
        (["x", "--reorder-grace", "soon"], "'soon' is not a duration such as 200ms"),
        (["x", "--redact-key-file", "missing.key"], "missing.key: No such file or directory"),
        (["x", "--max-flows", "0"], "0 is not in the range"),
        (["x", "--max-flows", "9999999999999999999"], "max_flows must be at least 1 and less than 2^62"),
    ],
)
def test_wrong_command_line(options: list[str], message: str) -> None:
    result = run(*options)

    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_redact_key_file(good: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcde\n")
    result = run(good, "--redact", "values", "--redact-key-file", key)
    assert (result.exit_code, "redact_key has 15 bytes" in result.stderr) == (2, True)

    key.write_bytes(b"0123456789abcdef\n")
    assert run(good, "--redact", "values", "--redact-key-file", key).exit_code == 0
    assert run(good, "--redact", "none", "--redact-key-file", key).exit_code == 2


def test_defaults_shown_are_the_defaults() -> None:
    options = {option.name: option.default for option in main.commands["replay"].params}

    assert options["reorder_grace"] == f"{Limits().reorder_grace_us // 1000}ms"
    assert options["progress_interval"] == f"{Limits().progress_interval_us // 1_000_000}s"
    assert options["max_flows"] == Limits().max_flows


@pytest.mark.parametrize(("target", "reason"), [("missing/out", "No such file"), (".", "Is a directory")])
def test_output_that_cannot_be_written(good: Path, tmp_path: Path, target: str, reason: str) -> None:
    result = run(good, "--write", tmp_path / target)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"mirror-audit: {tmp_path / target}: cannot be written: {reason}")
    assert result.stdout == ""


def test_full_disk(good: Path) -> None:
    require(Path("/dev/full").exists(), "/dev/full does not exist here")
    result = run(good, "--write", "/dev/full")

    assert result.exit_code == 1
    assert result.stderr == "mirror-audit: /dev/full: cannot be written: No space left on device\n"


def test_input_is_not_overwritten(good: Path) -> None:
    before = good.read_bytes()
    result = run(good, "--write", good)

    assert result.exit_code == 2
    assert "would destroy a capture" in result.stderr
    assert good.read_bytes() == before


def test_defect_gives_one_sentence(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("boom\n\x1b[2J")

    monkeypatch.setattr("mirror_audit.cli.replay.Pipeline", broken)
    result = run(good)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert r"(RuntimeError: boom \x1b[2J); please report it" in result.stderr

    monkeypatch.setenv("MIRROR_AUDIT_DEBUG", "1")
    assert "Traceback" in run(good).stderr


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mirror_audit", "replay", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_standard_input(good: Path) -> None:
    process = start("-", stdin=subprocess.PIPE)
    output, errors = process.communicate(good.read_bytes())

    assert process.returncode == 0, errors
    assert output.decode() == run(good).stdout


def test_interrupted_while_it_reads_a_live_capture(good: Path) -> None:
    data = good.read_bytes()
    # Its own session: a shell may have started these tests with SIGINT ignored, which children inherit.
    process = start("-", stdin=subprocess.PIPE, bufsize=0, preexec_fn=allow_interrupts)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(data[:-16])
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stdin.write(data[-16:])
    rest, errors = process.communicate()

    assert process.returncode == 130, errors
    assert [record.kind for record in records((first + rest).decode())][:2] == ["session_start", "statement"]
    assert b"Traceback" not in errors
    assert b" packets in " in errors


def allow_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("output", ["jsonl", "table"])
def test_reader_goes_away(good: Path, tmp_path: Path, output: str) -> None:
    process = start(good, "--output", output)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait() == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()

    # With a file beside it, that goes on.
    process = start(good, "--output", output, "--write", tmp_path / "out.jsonl")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait() == 0
    assert process.stderr is not None
    assert b"1 session" in process.stderr.read()
    process.stderr.close()
    assert (tmp_path / "out.jsonl").read_text() == run(good).stdout


def test_terminal_gets_a_table_and_a_progress_line(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A pseudo-terminal on both streams is what a user has.
    def on_terminal(*arguments: str) -> str:
        main_end, terminal = os.openpty()
        command = [sys.executable, "-m", "mirror_audit", "replay", str(good), *arguments]
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
        environment.pop("NO_COLOR", None)
        with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as process:
            os.close(terminal)
            shown = io.BytesIO()
            while True:
                try:
                    data = os.read(main_end, 65536)
                except OSError:  # Linux's way to say that nobody is left at the other end
                    break
                if not data:
                    break
                shown.write(data)
            assert process.wait() == 0
        os.close(main_end)
        return shown.getvalue().decode()

    table = on_terminal()
    assert "user@database" in table
    assert "\x1b[2m" in table, "in colour"
    assert "packets, " not in table, "no progress line in the middle of a table"
    quiet = on_terminal("--output", "none")
    assert "\r\x1b[K[####################] 100%" in quiet
    assert "1 session, 1 statement" in quiet


def test_output_is_json_lines_as_written(good: Path) -> None:
    for line in run(good).stdout.splitlines():
        assert json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False) == line
