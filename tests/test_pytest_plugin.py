"""The plugin, in test runs of its own."""

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mirror_audit.audit.record import Record
from tests.cli.captures import session, write

pytest_plugins = ["pytester"]

TESTS = """
def test_call(audit_replay):
    records = audit_replay("x.pcap")
    assert [record.kind for record in records] == ["session_start", "statement", "session_end"]
    assert audit_replay("x.pcap", server_ports=(1,)) == []

def test_golden(audit_replay):
    records = audit_replay.golden("x.pcap", "x.jsonl")
    assert len(records) == 3
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # Where mirror_audit is installed, pytest has found the plugin already.
    if not any(point.value == "mirror_audit.pytest_plugin" for point in entry_points(group="pytest11")):
        arguments = ("-p", "mirror_audit.pytest_plugin", *arguments)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


@pytest.fixture
def golden(pytester: pytest.Pytester) -> Path:
    """A directory with tests, a capture and its golden file."""
    write(pytester.path / "x.pcap", session().frames)
    pytester.makepyfile(TESTS)
    run(pytester, "--update-golden").assert_outcomes(passed=2)
    return pytester.path / "x.jsonl"


def test_update_writes_the_records(golden: Path) -> None:
    lines = golden.read_bytes().splitlines(keepends=True)

    assert [Record.from_json(line).kind for line in lines] == ["session_start", "statement", "session_end"]
    assert all(line.endswith(b"\n") for line in lines)


def test_equal(pytester: pytest.Pytester, golden: Path) -> None:
    run(pytester).assert_outcomes(passed=2)


def test_relative_to_the_test(
    pytester: pytest.Pytester, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pytester.path / "elsewhere").mkdir()
    monkeypatch.chdir(pytester.path / "elsewhere")

    run(pytester, str(pytester.path)).assert_outcomes(passed=2)


def test_different_value(pytester: pytest.Pytester, golden: Path) -> None:
    lines = golden.read_text().splitlines()
    statement = json.loads(lines[1])
    statement["statement"]["rows"] = 2
    statement["statement"]["tables"] = [{"schema": None, "name": "orders"}]
    del statement["user"]
    lines[1] = json.dumps(statement)
    golden.write_text("\n".join(lines))

    result = run(pytester)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*the records differ from *x.jsonl (if they are right: pytest --update-golden)",
            '*record 2 (statement): statement.tables[[]0].name: expected "orders", got nothing',
            "*record 2 (statement): statement.rows: expected 2, got 1",
            '*record 2 (statement): user: expected nothing, got "app"',
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "pytest_plugin.py" not in result.stdout.str(), "the difference, not our source"


def test_missing_and_surplus_records(pytester: pytest.Pytester, golden: Path) -> None:
    lines = golden.read_text().splitlines(keepends=True)
    golden.write_text("".join(lines[:2]))
    run(pytester).stdout.fnmatch_lines(["*2 records expected, 3 found", "*record 3 is not expected: {*"])

    golden.write_text("".join([*lines, lines[0] * 30]))
    run(pytester).stdout.fnmatch_lines(
        ["*33 records expected, 3 found", "*record 4 is missing: {*", "*... and 11 more"]
    )


def test_form_only(pytester: pytest.Pytester, golden: Path) -> None:
    lines = [json.dumps(json.loads(line)) for line in golden.read_text().splitlines()]
    golden.write_text("\n".join(lines))

    run(pytester).stdout.fnmatch_lines(["*record 1 (session_start): only the order or form of its fields*"])


def test_golden_line_that_is_no_json(pytester: pytest.Pytester, golden: Path) -> None:
    golden.write_text("x\n" + golden.read_text().partition("\n")[2])

    run(pytester).stdout.fnmatch_lines(["*record 1: the golden line is not JSON"])


def test_no_golden_file(pytester: pytest.Pytester, golden: Path) -> None:
    golden.unlink()

    result = run(pytester)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*x.jsonl does not exist; pytest --update-golden writes it"])
