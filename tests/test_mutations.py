"""Damaged captures: whatever arrives, nothing raises and every record fits its schema.

benchmarks/mutate.py does the same a million times, on more captures, and watches the memory.
"""

import pytest

from tests.support.mutations import SETTINGS, complaint, decode, mutations, read_frames, rounds
from tests.support.samples import SAMPLES

SEED = 20261123
COUNT = 10_000

SOURCES = [read_frames(path) for path in sorted(SAMPLES.glob("*.pcap"))]


def test_sources_are_whole() -> None:
    assert len(SOURCES) > 50
    for frames in SOURCES:
        assert complaint(decode(frames, SETTINGS[0])) is None


def test_damage_is_reproducible() -> None:
    first, count = mutations(SEED, SOURCES[0])
    assert (first, count) == mutations(SEED, SOURCES[0])
    assert first != SOURCES[0][: len(first)]
    assert first != mutations(SEED + 1, SOURCES[0])[0]


@pytest.mark.parametrize("part", range(4))
def test_no_damage_raises_or_spoils_a_record(part: int) -> None:
    done = records = 0
    for number, (frames, damage, settings) in enumerate(rounds(SEED + part, COUNT // 4, SOURCES)):
        lines = decode(frames, settings)
        problem = complaint(lines)
        assert problem is None, f"round {number} of part {part}, {settings}: {problem}"
        done += damage
        records += lines.count(b"\n")
    assert done >= COUNT // 4
    assert records > 1_000, "damage that leaves nothing to decode proves nothing"
