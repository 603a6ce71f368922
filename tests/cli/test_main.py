"""The command itself: version, help, and that every end has its exit code."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mirror_audit import __version__
from mirror_audit._build import build_kind
from mirror_audit.cli.main import main
from mirror_audit.errors import CaptureError, ConfigError, MirrorAuditError, RecordError, SinkError
from mirror_audit.sinks.jsonl import OutputClosedError


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])

    assert result.exit_code == 0
    assert result.output == f"mirror-audit {__version__} ({build_kind()})\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["replay", "-h"], ["schema", "--help"]])
def test_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments, prog_name="mirror-audit")

    assert result.exit_code == 0
    assert result.output.startswith("Usage: mirror-audit ")


def test_module_is_the_command() -> None:
    command = [sys.executable, "-m", "mirror_audit", "--version"]

    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.startswith(
        "mirror-audit "
    )


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CaptureError("x.pcap", "is empty"), 2, "mirror-audit: x.pcap: is empty"),
        (ConfigError("no port"), 2, "mirror-audit: no port\n"),
        (SinkError("disk full"), 1, "mirror-audit: disk full\n"),
        (RecordError("no record"), 1, "mirror-audit: no record\n"),
        (MirrorAuditError("other"), 1, "mirror-audit: other\n"),
        (OutputClosedError("closed"), 0, ""),
        (click.FileError("x", "wrong"), 1, "Error: Could not open file 'x': wrong\n"),
        (KeyboardInterrupt(), 130, "\n"),
        (KeyError("x"), 1, "mirror-audit: this is a defect of mirror-audit"),
        (RecursionError(), 1, "mirror-audit: this is a defect of mirror-audit"),
    ],
    ids=repr,
)
def test_exit_codes(error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main.commands["schema"], "callback", fail)
    result = CliRunner().invoke(main, ["schema"])

    assert result.exit_code == code
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr


def test_without_standalone_mode_errors_are_the_callers() -> None:
    with pytest.raises(click.UsageError):
        main(["replay"], standalone_mode=False)
    assert main(["--help"], standalone_mode=False) == 0


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], []])
def test_unknown_command(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 2
    assert "Usage:" in result.output
