"""Measure mirror_audit: compiled against interpreted against tshark, on the same captures, in one run.

    python benchmarks/bench.py [--runs 5] [--scale 1.0] [--only main literals memory] [--markdown FILE]

The captures are made when they are first needed (see workload.py). Each candidate decodes them from disk
and writes what it has to say, as text, to /dev/null: ours the full records as JSON lines, tshark the fields
of each PostgreSQL message that come nearest to them. benchmarks/README.md says what is compared and how.
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.append(str(ROOT))

from benchmarks.measure import Candidate, Run, build_of, interleaved, median, take  # noqa: E402
from benchmarks.workload import cached, networks_apart  # noqa: E402

PARTS = ("main", "literals", "memory")
COPIES = 4
# What a record tells, as far as tshark can: who, when, what, how it ended. It does not join them.
TSHARK_FIELDS = (
    *("frame.time_epoch", "vxlan.vni", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "tcp.stream"),
    *("pgsql.type", "pgsql.query", "pgsql.statement", "pgsql.portal", "pgsql.val.data", "pgsql.tag"),
    *("pgsql.status", "pgsql.severity", "pgsql.code", "pgsql.message"),
)

Build = dict[str, str | None]


def ours(name: str, build: Build, files: Sequence[Path], *output: str, runs: int | None = None) -> Candidate:
    """mirror_audit of one build on `files`."""
    command = (sys.executable, "-m", "mirror_audit", "replay", *map(str, files), "-q", *output)
    return Candidate(name, command, build, runs)


def jsonl(name: str, build: Build, files: Sequence[Path], runs: int | None = None) -> Candidate:
    """The same, with full records to standard output."""
    return ours(name, build, files, "--output", "jsonl", runs=runs)


def tshark(files: Sequence[Path], runs: int | None = None) -> Candidate:
    """tshark on the one file."""
    fields = [word for field in TSHARK_FIELDS for word in ("-e", field)]
    command = ("tshark", "-n", "-r", str(files[0]), "-Y", "pgsql", "-T", "fields", *fields)
    return Candidate("tshark", command, {}, runs)


class Report:
    """Lines of Markdown, to the terminal and for RESULTS.md."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, *lines: str) -> None:
        """Some lines."""
        self.lines.extend(lines)
        print("\n".join(lines), flush=True)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; the first column is text, the others are figures."""
        self.say("| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1))
        for row in rows:
            self.say("| " + " | ".join(row) + " |")
        self.say("")


def per_second(count: int, seconds: float) -> str:
    """A rate as people read it."""
    return f"{count / seconds:,.0f}"


def check(facts: dict[str, Any], capture: Path, builds: dict[str, Build], report: Report) -> None:
    """Before anything is timed: are the records all there, and the same from each build?"""
    digests: dict[str, str] = {}
    for name, build in builds.items():
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "records.jsonl")
            take(ours(name, build, [capture], "--output", "none", "--write", str(target)))
            digest = hashlib.sha256()
            statements = incomplete = 0
            with target.open("rb") as lines:
                for line in lines:
                    digest.update(line)
                    statements += b'"kind":"statement"' in line[:48]
                    incomplete += b'"complete":false' in line
        digests[name] = digest.hexdigest()
        # pgbench itself asks for the scale before it starts: some more, never fewer.
        if statements < facts["statements"] or incomplete:
            raise SystemExit(
                f"{name}: {statements} statement records, {incomplete} incomplete, for {facts['statements']}"
            )
    same = len(set(digests.values())) == 1
    if not same:
        raise SystemExit(f"the builds disagree: {digests}")
    report.say(
        f"{facts['transactions']:,} transactions, {facts['statements']:,} statements, {facts['packets']:,} "
        f"packets, {facts['bytes'] / 2**20:,.0f} MiB, PostgreSQL {facts['server'].split()[0]}. "
        f"All statements in the records, none incomplete; {' and '.join(digests)}: "
        + ("the same bytes." if len(digests) > 1 else "checked."),
        "",
    )


def candidates(
    files: Sequence[Path], folder: str, builds: dict[str, Build], slow_runs: int | None
) -> list[Candidate]:
    """All that are compared on these files."""
    found = []
    if "compiled" in builds:
        build = builds["compiled"]
        found.append(jsonl("compiled", build, files))
        target = ("--output", "none", "--write", f"{folder}/records.jsonl")
        found.append(ours("compiled, to a file", build, files, *target))
    if "interpreted" in builds:
        found.append(jsonl("interpreted", builds["interpreted"], files, slow_runs))
    if shutil.which("tshark"):
        found.append(tshark(files, slow_runs))
    return found


def speed(
    name: str, scale: float, runs: int, slow_runs: int, builds: dict[str, Build], report: Report
) -> None:
    """One workload, all candidates; what each takes for a capture without packets tells its start."""
    capture = cached(name, scale)
    facts: dict[str, Any] = json.loads(capture.with_suffix(".json").read_text())
    report.say(f"### {name}", "")
    check(facts, capture, builds, report)
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.pcap")
        with capture.open("rb") as file:
            empty.write_bytes(file.read(24))
        starts = interleaved(candidates([empty], folder, builds, None), min(runs, 3), quiet=True)
        taken = interleaved(candidates([capture], folder, builds, slow_runs), runs)
    medians = {key: median(value) for key, value in taken.items()}
    heads = ("", "statements/s", "packets/s", "CPU s", "of it start", "wall s", "peak MiB")
    report.table(
        (*heads, "x tshark", "x interpreted"),
        [row(key, run, median(starts[key]).cpu, medians, facts) for key, run in medians.items()],
    )


def row(name: str, run: Run, start: float, taken: dict[str, Run], facts: dict[str, Any]) -> list[str]:
    """One candidate's line of the table."""

    def ratio(other: str) -> str:
        return f"{taken[other].cpu / run.cpu:.1f}" if other in taken else "-"

    return [
        name,
        per_second(facts["statements"], run.cpu),
        per_second(facts["packets"], run.cpu),
        f"{run.cpu:.2f}",
        f"{start:.2f}",
        f"{run.wall:.2f}",
        f"{run.peak_mib:.0f}",
        ratio("tshark"),
        ratio("interpreted"),
    ]


def memory(scale: float, builds: dict[str, Build], report: Report) -> None:
    """Peak memory for a capture once and for COPIES of it, each in a network and an hour of its own."""
    report.say("### memory", "")
    if "compiled" not in builds:
        report.say("Only the compiled build is measured here.", "")
        return
    rows = []
    for name in ("main", "literals"):
        files = networks_apart(cached(name, scale), COPIES)
        once = take(jsonl(name, builds["compiled"], files[:1]))
        often = take(jsonl(name, builds["compiled"], files))
        change = f"{(often.peak_mib / once.peak_mib - 1) * 100:+.1f} %"
        rows.append([name, f"{once.peak_mib:.1f}", f"{often.peak_mib:.1f}", change])
    report.table(["", "peak MiB, once", f"{COPIES} times as much", "change"], rows)


def machine() -> str:
    """What it ran on, without names."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"{platform.python_implementation()} {platform.python_version()}"
    versions = [f"{model}, {os.cpu_count()} CPUs, {gib:.0f} GiB", f"Linux {platform.release()}", python]
    if shutil.which("tshark"):
        said = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=False).stdout
        versions.append(" ".join(said.split("\n", 1)[0].split()[:3]).rstrip("."))
    return "; ".join(versions)


def find_builds(compiled: str | None, interpreted: str, report: Report) -> dict[str, Build]:
    """The builds that are here, by their names; says why one is not."""
    wanted: dict[str, Build] = {
        "compiled": {"PYTHONPATH": compiled, "PYTHONSAFEPATH": "1"},
        "interpreted": {"PYTHONPATH": interpreted, "PYTHONSAFEPATH": "1"},
    }
    found: dict[str, Build] = {}
    for name, build in wanted.items():
        kind, _ = build_of(build)
        if kind.split()[0] == name:
            found[name] = build
        else:
            report.say(f"No {name} build here ({kind}): not measured.", "")
    if not found:
        raise SystemExit("mirror_audit is not installed: run make bench")
    return found


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=5, help="rounds of measurement (default: 5)")
    parser.add_argument(
        "--slow-runs", type=int, default=3, help="rounds with tshark and interpreted (default: 3)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="size of the workload (default: 1.0)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument(
        "--compiled", metavar="DIR", help="where the compiled package lies (default: installed)"
    )
    parser.add_argument(
        "--interpreted", metavar="DIR", default=str(ROOT), help="... the sources (default: here)"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report to FILE too")
    chosen = parser.parse_args()
    report = Report()
    shown = " ".join(["python benchmarks/bench.py", *map(shlex.quote, _without_paths(sys.argv[1:]))])
    report.say(f"{time.strftime('%Y-%m-%d', time.gmtime())}, `{shown}`; {machine()}.", "")
    if shutil.which("tshark") is None:
        report.say("tshark is not installed: not compared.", "")
    builds = find_builds(chosen.compiled, chosen.interpreted, report)
    for name in ("main", "literals"):
        if name in chosen.only:
            speed(name, chosen.scale, chosen.runs, chosen.slow_runs, builds, report)
    if "memory" in chosen.only:
        memory(chosen.scale, builds, report)
    if chosen.markdown:
        chosen.markdown.write_text("\n".join(report.lines))


def _without_paths(words: Sequence[str]) -> list[str]:
    """The command line as somebody else would give it: without our folders."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in ("--compiled", "--interpreted", "--markdown"):
            kept.append(word)
        skip = word in ("--compiled", "--interpreted", "--markdown")
    return kept


if __name__ == "__main__":
    main()
