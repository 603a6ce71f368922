"""What is installed, and what a build does with a C compiler, without one, and with one that fails."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

import mirror_audit
from mirror_audit._build import build_kind, build_reason, describe_build

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def test_version_is_said_once() -> None:
    assert importlib.metadata.version("mirror_audit") == mirror_audit.__version__
    assert mirror_audit.__version__ not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_entry_points() -> None:
    points = importlib.metadata.distribution("mirror_audit").entry_points
    assert {(point.group, point.name): point.value for point in points} == {
        ("console_scripts", "mirror-audit"): "mirror_audit.cli.main:main",
        ("pytest11", "mirror_audit"): "mirror_audit.pytest_plugin",
    }
    for point in points:
        assert point.load() is not None


def test_scapy_is_never_a_dependency_of_users() -> None:
    requirements = importlib.metadata.requires("mirror_audit") or []
    always = [line for line in requirements if "extra ==" not in line]
    names = {re.split(r"[^\w-]", line)[0].replace("_", "-") for line in always}
    assert names == {"click", "librt", "mypy-extensions", "postgast", "zstandard"}


def test_package_is_typed() -> None:
    assert (Path(mirror_audit.__file__).parent / "py.typed").is_file()


def test_build_kind_and_reason_agree() -> None:
    assert (build_reason() is None) == (build_kind() == "compiled")
    assert describe_build().startswith(build_kind())


@pytest.mark.parametrize("command", [["-m", "mirror_audit"], None], ids=["python -m", "script"])
def test_command_tells_version_and_build(command: list[str] | None) -> None:
    script = str(Path(sys.executable).parent / "mirror-audit")
    run = [sys.executable, *command] if command else [script]
    output = subprocess.run([*run, "--version"], capture_output=True, text=True, check=True).stdout
    assert mirror_audit.__version__ in output
    assert build_kind() in output


def test_constraints_pin_by_hash_and_cover_the_build() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE))
    others = [line for line in text.splitlines() if line and not line.startswith(("#", "    --hash=sha256:"))]
    assert len(others) == len(pins)
    assert {"setuptools", "mypy", "librt", "click", "dpkt", "postgast", "pytest", "ruff"} <= set(pins)
    assert f"mypy[mypyc]=={pins['mypy']}" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what a build reads, with one small module to compile."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "mirror_audit", copy / "mirror_audit", ignore=ignored)
    project = copy / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^compiled = \[.*?^\]", 'compiled = ["mirror_audit/jsontext.py"]', text)
    project.write_text(text, encoding="utf-8")
    return copy


def _build(source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (source / "dist").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", BUILD, "dist"],
        cwd=source,
        env=os.environ | {"MIRROR_AUDIT_COMPILE": "auto"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _wheel(source: Path) -> zipfile.ZipFile:
    [path] = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def _native(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith((".so", ".pyd"))]


@pytest.mark.build
def test_build_compiles_and_forgets_the_build_before(source: Path) -> None:
    stale = source / "build" / "lib" / "mirror_audit" / "removed_long_ago.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    result = _build(source, MIRROR_AUDIT_COMPILE="require")
    assert result.returncode == 0, result.stderr
    with _wheel(source) as wheel:
        names = wheel.namelist()
    assert len(_native(names)) == 2  # the module and the group's library
    assert "mirror_audit/py.typed" in names
    assert not [name for name in names if "removed_long_ago" in name or name.startswith(("tests/", "build/"))]


@pytest.mark.build
@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"MIRROR_AUDIT_COMPILE": "0"}, "MIRROR_AUDIT_COMPILE=0 when it was built"),
        ({"CC": "/nowhere/cc"}, "no C compiler: /nowhere/cc not found"),
        ({"CC": "false"}, "the C compiler false does not work: no message"),
    ],
)
def test_build_without_a_compiler_is_interpreted_and_says_why(
    source: Path, environment: dict[str, str], reason: str
) -> None:
    result = _build(source, **environment)
    assert result.returncode == 0, result.stderr
    with _wheel(source) as wheel:
        assert _native(wheel.namelist()) == []
        assert wheel.filename is not None
        assert wheel.filename.endswith("-py3-none-any.whl")
        assert wheel.read("mirror_audit/_build_note.txt").decode() == f"{reason}\n"
    if "CC" in environment:
        assert f"not compiled, installed interpreted: {reason}\n" in result.stderr


@pytest.mark.build
def test_build_survives_a_compiler_that_fails_later(source: Path) -> None:
    # The probe compiles; what mypyc wrote does not, as on a machine that runs out of memory.
    compiler = source / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *__mypyc*|*__native*) echo "no memory" >&2; exit 1;; esac\n')
    compiler.chmod(0o755)
    result = _build(source, CC=str(compiler))
    assert result.returncode == 0, result.stderr
    with _wheel(source) as wheel:
        assert _native(wheel.namelist()) == []
        assert wheel.read("mirror_audit/_build_note.txt").decode().startswith("the C compiler failed: ")


@pytest.mark.build
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"MIRROR_AUDIT_COMPILE": "require", "CC": "/nowhere/cc"}, "no C compiler: /nowhere/cc not found"),
        ({"MIRROR_AUDIT_COMPILE": "maybe"}, "MIRROR_AUDIT_COMPILE is 'maybe'; it can be auto, 0 or require"),
    ],
)
def test_build_fails_in_one_sentence(source: Path, environment: dict[str, str], message: str) -> None:
    result = _build(source, **environment)
    assert result.returncode != 0
    assert message in result.stderr.splitlines()[-1]
