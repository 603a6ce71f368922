"""Where the time goes: samples of `perf`, counted for the innermost module of mirror_audit on the stack.

    python benchmarks/stages.py [--scale 1.0] [--compiled DIR] [--functions 12] [WORKLOAD ...]

What Python's runtime does for a module (allocating, looking up in dictionaries) counts as that module's.
Needs `perf` and the right to use it, and the compiled build.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.append(str(ROOT))

from benchmarks.measure import build_of  # noqa: E402
from benchmarks.workload import WORKLOADS, cached  # noqa: E402

__all__ = ["stacks"]

FREQUENCY = 1999
# mypyc's name of a function: CPyDef_MODULE___FUNCTION or CPyDef_MODULE___CLASS___METHOD.
OURS = re.compile(r"CPyDef_(\w+?)___(\w+)")
STARTUP = ("PyImport_ImportModuleLevelObject", "Py_InitializeFromConfig", "Py_FinalizeEx")


def stacks(capture: Path, environment: dict[str, str]) -> Iterator[list[str]]:
    """The sampled stacks of one decoding of `capture`, each from the innermost function outwards."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        record = [
            "perf",
            "record",
            "-q",
            "-o",
            data,
            "--call-graph",
            "dwarf,16384",
            "-F",
            str(FREQUENCY),
            "--",
        ]
        ours = [sys.executable, "-m", "mirror_audit", "replay", str(capture), "-q", "--output", "jsonl"]
        done = subprocess.run(
            record + ours, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, check=False
        )
        if done.returncode:
            raise SystemExit(f"perf: {done.stderr.decode()}")
        script = ["perf", "script", "-i", data, "--no-inline", "-F", "ip,sym"]
        with subprocess.Popen(
            script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            stack: list[str] = []
            for line in process.stdout:
                if line.strip():
                    stack.append(line.split(maxsplit=1)[1].strip())
                elif stack:
                    yield stack
                    stack = []
            if stack:
                yield stack


def folders() -> dict[str, str]:
    """Module name -> its folder in the package."""
    package = ROOT / "mirror_audit"
    return {path.stem: path.parent.name for path in package.rglob("*.py") if path.parent != package}


def place(stack: Sequence[str], where: dict[str, str]) -> tuple[str, str]:
    """(stage, function) that a sample counts for."""
    if any(name in STARTUP for name in stack):
        return "start of the program", "imports"
    if "gc_collect_main" in stack:
        return "garbage collection", "gc"
    for name in stack:
        if match := OURS.match(name):
            module = match[1]
            folder = where.get(module)
            label = f"{folder}/{module}" if folder else module
            return label, f"{label}.{match[2].replace('___', '.')}"
    return "the rest (system calls, command line)", "-"


def show(name: str, capture: Path, environment: dict[str, str], functions: int) -> None:
    """Print both tables of one workload."""
    facts = json.loads(capture.with_suffix(".json").read_text())
    where = folders()
    stages: Counter[str] = Counter()
    inner: Counter[str] = Counter()
    for stack in stacks(capture, environment):
        stage, function = place(stack, where)
        stages[stage] += 1
        inner[function] += 1
    total = stages.total()
    print(f"### {name}: {total:,} samples, {total / FREQUENCY:.2f} s, {facts['statements']:,} statements\n")
    print("| module | share | ns a statement |\n|---|--:|--:|")
    for counted, least in ((stages, 0.01), (inner, 0.0)):
        if counted is inner:
            print("\n| function, with what the runtime does for it | share | ns a statement |\n|---|--:|--:|")
        for label, count in counted.most_common(None if counted is stages else functions):
            if count >= total * least:
                cost = count / FREQUENCY / facts["statements"] * 1e9
                print(f"| {label} | {count / total:.1%} | {cost:,.0f} |")
    print()


def main() -> None:
    """Parse the command line and profile."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", default=list(WORKLOADS), metavar="WORKLOAD")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the workload (default: 1.0)")
    parser.add_argument(
        "--compiled", metavar="DIR", help="where the compiled package lies (default: installed)"
    )
    parser.add_argument("--functions", type=int, default=12, help="functions to list (default: 12)")
    chosen = parser.parse_args()
    if shutil.which("perf") is None:
        raise SystemExit("perf is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONSAFEPATH"] = "1"
    if chosen.compiled:
        environment["PYTHONPATH"] = chosen.compiled
    kind, _ = build_of({**environment, "PYTHONPATH": chosen.compiled})
    if kind != "compiled":
        raise SystemExit(f"not the compiled build: {kind}")
    for name in chosen.names:
        show(name, cached(name, chosen.scale), environment, chosen.functions)


if __name__ == "__main__":
    main()
