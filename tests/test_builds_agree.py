"""The compiled and the interpreted build give the same bytes, also for damaged captures.

The other build is looked for as the Makefile keeps them: the one that is installed, and the checkout in front
of it. Each decodes in a process of its own, for modules of one cannot take the place of the other's.
"""

import os
import subprocess
import sys
from pathlib import Path

from mirror_audit._build import build_kind
from tests.require import require

ROOT = Path(__file__).resolve().parents[1]
COUNT = 3_000
SEED = 20261123
SHOW = "import mirror_audit._build as b; print(b.build_kind())"


def _run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, cwd="/"
    )


def _environments() -> dict[str, dict[str, str]]:
    """The builds that are here, each with the environment in which Python finds it."""
    base = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    base |= {"PYTHONSAFEPATH": "1"}
    places = [dict(os.environ), base, base | {"PYTHONPATH": str(ROOT)}]
    found: dict[str, dict[str, str]] = {}
    for environment in places:
        done = _run(environment, "-c", SHOW)
        if done.returncode == 0:
            found.setdefault(done.stdout.strip(), environment)
    return found


def test_same_records_of_damaged_captures() -> None:
    builds = _environments()
    assert build_kind() in builds
    require(len(builds) == 2, f"only the {' and '.join(builds)} build is here")
    program = [str(ROOT / "benchmarks" / "mutate.py"), "--digests", f"--count={COUNT}", f"--seed={SEED}"]
    outputs = {}
    for kind, environment in builds.items():
        done = _run(environment, *program, str(ROOT / "samples"))
        assert done.returncode == 0, f"{kind}: {done.stderr}"
        outputs[kind] = done.stdout.splitlines()
    compiled, interpreted = outputs["compiled"], outputs["interpreted"]
    assert len(compiled) == len(interpreted) > 100
    different = [line.split()[0] for line, other in zip(compiled, interpreted, strict=True) if line != other]
    assert not different, f"rounds of seed {SEED} with other records"
