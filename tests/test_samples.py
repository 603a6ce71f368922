"""Every sample capture gives the records beside it (`pytest --update-golden` writes them anew)."""

from pathlib import Path

import pytest

from mirror_audit.pytest_plugin import AuditReplay

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
CAPTURES = sorted(path.stem for path in SAMPLES.glob("*.pcap"))


def test_there_are_samples() -> None:
    assert len(CAPTURES) >= 50
    assert "demo" in CAPTURES


@pytest.mark.parametrize("name", CAPTURES)
def test_golden(audit_replay: AuditReplay, name: str) -> None:
    records = audit_replay.golden(SAMPLES / f"{name}.pcap", SAMPLES / f"{name}.jsonl")
    assert records or name.startswith("hostile_not")


def test_no_golden_without_its_capture() -> None:
    assert {path.stem for path in SAMPLES.glob("*.jsonl")} == set(CAPTURES)
