"""Damage real captures a million times: nothing may raise, records must fit their schema, memory must stay.

    python benchmarks/mutate.py [--count 1000000] [--seed 1] [--digests] [CAPTURE ...]

The captures are those given, or else samples/ and what lies in ../shared/pcaps. `--count` is of mutations
(see tests/support/mutations.py), so more packets than that are decoded. Round N of a seed is always the same.
If one fails, its packets are reduced to few that still fail and kept as a capture in benchmarks/.cache.
`--digests` prints the SHA-256 of each round's records and checks nothing: two builds must print the same.
"""

import argparse
import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.append(str(ROOT))

from mirror_audit._build import describe_build  # noqa: E402
from mirror_audit.config import Settings  # noqa: E402
from tests.support.mutations import (  # noqa: E402
    SETTINGS,
    RawFrame,
    complaint,
    decode,
    read_frames,
    rounds,
)

__all__ = ["captures"]

CAPTURES = (ROOT / "samples", ROOT.parent / "shared" / "pcaps")
# What memory may grow by once all captures were decoded with all settings: allocators do not give all back.
GROWTH_MIB = 32.0
# Failures of one kind are alike: the first is kept, the others are counted.
KIND_LENGTH = 40


def captures(paths: Sequence[Path]) -> list[list[RawFrame]]:
    """The frames of all captures in these files and folders, always in the same order."""
    files: list[Path] = []
    for path in paths:
        files += sorted(path.rglob("*.pcap*")) if path.is_dir() else [path]
    found = [read_frames(path) for path in files if path.is_file()]
    return [frames for frames in found if frames]


def resident_mib() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def failure(frames: Sequence[RawFrame], settings: Settings) -> str | None:
    """What goes wrong when these frames are decoded; None if nothing does."""
    try:
        lines = decode(frames, settings)
    except Exception as error:  # noqa: BLE001 - that anything at all is raised is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    return complaint(lines)


def reduced(frames: list[RawFrame], fails: Callable[[list[RawFrame]], bool]) -> list[RawFrame]:
    """As few of the frames as still fail: pieces of half the size each time are left out if they can be."""
    size = max(1, len(frames) // 2)
    while True:
        at = 0
        while at < len(frames):
            rest = frames[:at] + frames[at + size :]
            if rest and fails(rest):
                frames = rest
            else:
                at += size
        if size == 1:
            return frames
        size //= 2


def keep(name: str, frames: Sequence[RawFrame]) -> Path:
    """Write frames (of one link type) as a pcap file for whoever looks into a failure."""
    target = HERE / ".cache"
    target.mkdir(exist_ok=True)
    (target / ".gitignore").write_text("*\n")
    out = bytearray(bytes.fromhex("d4c3b2a1020004000000000000000000ffff0000"))
    out += frames[0].link_type.to_bytes(4, "little")
    for frame in frames:
        seconds, micros = divmod(frame.time, 1_000_000)
        for word in (seconds, micros, len(frame.data), frame.wire_length):
            out += (word & 0xFFFFFFFF).to_bytes(4, "little")
        out += frame.data
    path = target / f"{name}.pcap"
    path.write_bytes(out)
    return path


def explain(number: int, frames: list[RawFrame], settings: Settings, problem: str) -> None:
    """Tell of one failure, with the fewest packets."""
    kind = problem[:KIND_LENGTH]
    few = reduced(frames, lambda some: (failure(some, settings) or "").startswith(kind))
    path = keep(f"failure-{number}", few)
    which = SETTINGS.index(settings)
    print(f"round {number}, SETTINGS[{which}]: {problem}\n  {len(few)} packets: {path}", flush=True)


def fuzz(seed: int, count: int, sources: Sequence[list[RawFrame]]) -> int:
    """Check all rounds; the number of failures."""
    start = time.monotonic()
    number = done = packets = failures = 0
    before = highest = 0.0
    kinds: set[str] = set()
    warm = len(sources) * len(SETTINGS)
    for number, (frames, damage, settings) in enumerate(rounds(seed, count, sources), 1):
        done += damage
        packets += len(frames)
        problem = failure(frames, settings)
        if problem is not None:
            failures += 1
            if problem[:KIND_LENGTH] not in kinds:
                kinds.add(problem[:KIND_LENGTH])
                explain(number, frames, settings, problem)
        if number == warm:
            before = resident_mib()
        elif number % warm == 0:
            highest = max(highest, resident_mib())
            note = f"{done:,} mutations, {packets:,} packets, {highest:.0f} MiB"
            print(f"\r{note}", end="", file=sys.stderr, flush=True)
    growth = max(0.0, highest - before) if before and highest else 0.0
    print(file=sys.stderr)
    print(
        f"{describe_build()}, seed {seed}: {done:,} mutations in {number:,} captures, {packets:,} packets, "
        f"{time.monotonic() - start:.0f} s: {failures} failures; "
        f"memory {before:.0f} MiB after the first {warm} captures, then up to {growth:.1f} more"
    )
    if growth > GROWTH_MIB:
        print(f"memory grew by more than {GROWTH_MIB:.0f} MiB")
        failures += 1
    return failures


def digests(seed: int, count: int, sources: Sequence[list[RawFrame]]) -> None:
    """One line a round: its number, packets and the SHA-256 of its records."""
    for number, (frames, _, settings) in enumerate(rounds(seed, count, sources), 1):
        digest = hashlib.sha256(decode(frames, settings)).hexdigest()
        print(number, len(frames), digest)


def main() -> int:
    """Parse the command line and do it; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("captures", nargs="*", type=Path, default=list(CAPTURES), metavar="CAPTURE")
    parser.add_argument("--count", type=int, default=1_000_000, help="mutations (default: 1000000)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other damage (default: 1)")
    parser.add_argument("--digests", action="store_true", help="print a digest a round, check nothing")
    chosen = parser.parse_args()
    sources = captures(chosen.captures)
    if not sources:
        parser.error("no captures to damage")
    if chosen.digests:
        digests(chosen.seed, chosen.count, sources)
        return 0
    return 1 if fuzz(chosen.seed, chosen.count, sources) else 0


if __name__ == "__main__":
    sys.exit(main())
