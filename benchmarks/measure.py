"""Run commands side by side and say what they took: CPU seconds, wall seconds, peak memory.

The figures are the kernel's for the finished process (wait4), startup of the interpreter included. Candidates
take turns, so that what else the machine does meets all of them alike; medians are compared, never best runs.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Candidate", "Run", "build_of", "interleaved", "median", "take"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A command to measure; `environment` is laid over the caller's (None removes), `runs` caps its runs."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str | None] = field(default_factory=dict)
    runs: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took: seconds of processor (user + system) and of the clock, peak memory in MiB."""

    cpu: float
    wall: float
    peak_mib: float


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def take(candidate: Candidate) -> Run:
    """Run it once, output to /dev/null. Raises RuntimeError with its last words if it fails.

    Linux counts a parent's memory as its child's peak until the child has started its program: keep the
    process that calls this small.
    """
    with Path(os.devnull).open("wb") as nowhere:
        start = time.monotonic()
        process = subprocess.Popen(
            candidate.command,
            stdin=subprocess.DEVNULL,
            stdout=nowhere,
            stderr=subprocess.PIPE,
            env=_environment(candidate.environment),
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{candidate.name}: exit code {process.returncode}: {said.decode()[-2000:]}")
    return Run(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def interleaved(candidates: Sequence[Candidate], runs: int, quiet: bool = False) -> dict[str, list[Run]]:
    """`runs` rounds in which each candidate has its turn (while its own cap lets it)."""
    taken: dict[str, list[Run]] = {candidate.name: [] for candidate in candidates}
    for number in range(runs):
        for candidate in candidates:
            if candidate.runs is not None and number >= candidate.runs:
                continue
            run = take(candidate)
            taken[candidate.name].append(run)
            note = f"{run.cpu:.2f} s CPU, {run.wall:.2f} s, {run.peak_mib:.0f} MiB"
            if not quiet:
                print(f"  round {number + 1}, {candidate.name}: {note}", file=sys.stderr)
    return taken


def median(runs: Sequence[Run]) -> Run:
    """The median of each figure by itself."""
    return Run(
        statistics.median(run.cpu for run in runs),
        statistics.median(run.wall for run in runs),
        statistics.median(run.peak_mib for run in runs),
    )


def build_of(environment: Mapping[str, str | None]) -> tuple[str, Path]:
    """Which build of mirror_audit Python finds with this environment: `compiled` or not, and its folder."""
    program = "import mirror_audit._build as b; print(b.describe_build()); print(b.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=_environment(environment),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if done.returncode:
        return "not installed", Path()
    kind, path = done.stdout.splitlines()
    return kind, Path(path).parent
