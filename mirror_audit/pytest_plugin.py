"""pytest plugin: check what a capture gives, record by record.

::

    def test_nobody_drops_tables(audit_replay):
        records = audit_replay("integration.pcap")
        assert not any(r.statement and r.statement.class_ == "DDL" for r in records)

    def test_audit_trail(audit_replay):
        audit_replay.golden("integration.pcap", "integration.jsonl")

Relative names are relative to the directory of the test's file. `pytest --update-golden` writes the golden
files anew instead of comparing with them. The plugin is installed with mirror_audit.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

import pytest

if TYPE_CHECKING:
    from mirror_audit.audit.record import Record
    from mirror_audit.replay import ReplayOptions

__all__ = ["AuditReplay", "audit_replay", "pytest_addoption"]

_SHOWN: Final = 20
_MISSING: Final = object()


class AuditReplay:
    """What the fixture `audit_replay` is: call it to get the records of a capture."""

    def __init__(self, directory: Path, update: bool) -> None:
        self._directory = directory
        self._update = update

    def __call__(self, path: str | Path, **options: "Unpack[ReplayOptions]") -> "list[Record]":
        """All records of the capture. `options` and errors are those of `mirror_audit.replay.replay`."""
        # Here and not above: pytest loads plugins for every project, also for those that do not use this one.
        from mirror_audit.replay import replay  # noqa: PLC0415

        return list(replay(self._directory / path, **options))

    def golden(
        self, capture: str | Path, expected: str | Path, **options: "Unpack[ReplayOptions]"
    ) -> "list[Record]":
        """The records of `capture`, after a check that they are those in the file `expected` (JSON lines).

        Fails with the fields that differ. With --update-golden the file is written and nothing fails.
        """
        __tracebackhide__ = True
        records = self(capture, **options)
        lines = [record.to_json() for record in records]
        path = self._directory / expected
        if self._update:
            path.write_bytes(b"".join(line + b"\n" for line in lines))
            return records
        if not path.exists():
            pytest.fail(f"{path} does not exist; pytest --update-golden writes it", pytrace=False)
        wanted = path.read_bytes().splitlines()
        if lines != wanted:
            pytest.fail(_difference(wanted, lines, path), pytrace=False)
        return records


@pytest.fixture
def audit_replay(request: pytest.FixtureRequest) -> AuditReplay:
    """`audit_replay(path)` gives records, `audit_replay.golden(path, jsonl)` compares them."""
    return AuditReplay(request.path.parent, bool(request.config.getoption("--update-golden")))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden."""
    group = parser.getgroup("mirror_audit")
    group.addoption(
        "--update-golden", action="store_true", help="write the golden files of audit_replay.golden anew"
    )


def _difference(wanted: list[bytes], got: list[bytes], path: Path) -> str:
    """The differences in words: `record 3 (statement): statement.rows: expected 1, got 2`."""
    lines: list[str] = []
    if len(wanted) != len(got):
        lines.append(f"{len(wanted)} records expected, {len(got)} found")
    for i in range(max(len(wanted), len(got))):
        if i >= len(got):
            lines.append(f"record {i + 1} is missing: {wanted[i].decode('utf-8', 'replace')}")
        elif i >= len(wanted):
            lines.append(f"record {i + 1} is not expected: {got[i].decode('utf-8', 'replace')}")
        elif wanted[i] != got[i]:
            lines.extend(f"record {i + 1}{what}" for what in _record_difference(wanted[i], got[i]))
    more = len(lines) - _SHOWN
    if more > 0:
        lines[_SHOWN:] = [f"... and {more} more"]
    head = f"the records differ from {path} (if they are right: pytest --update-golden)"
    return "\n  ".join([head, *lines])


def _record_difference(wanted: bytes, got: bytes) -> list[str]:
    try:
        expected, found = json.loads(wanted), json.loads(got)
    except ValueError:
        return [": the golden line is not JSON"]
    kind = found.get("kind")
    flat_expected, flat_found = _flat(expected), _flat(found)
    differences = [
        f" ({kind}): {key}: expected {_shown(flat_expected, key)}, got {_shown(flat_found, key)}"
        for key in dict.fromkeys([*flat_expected, *flat_found])
        if flat_expected.get(key, _MISSING) != flat_found.get(key, _MISSING)
    ]
    return differences or [f" ({kind}): only the order or form of its fields differs"]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """{"statement.parameters[0].value": ...}: every leaf by its path; empty lists and objects are leaves."""
    if isinstance(value, dict) and value:
        items = [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
    elif isinstance(value, list) and value:
        items = [(f"{path}[{i}]", inner) for i, inner in enumerate(value)]
    else:
        return {path: value}
    result: dict[str, Any] = {}
    for key, inner in items:
        result |= _flat(inner, key)
    return result


def _shown(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "nothing"
