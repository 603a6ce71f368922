"""Compile the hot modules with mypyc, or install them as plain Python and say why.

Everything else about the build is in pyproject.toml, also the list of hot modules (`[tool.mirror_audit]
compiled`). The environment variable MIRROR_AUDIT_COMPILE chooses:

    auto      compile if it can be done, otherwise install interpreted (the default)
    0         install interpreted
    require   a build that cannot be compiled fails

Compiled modules are an all-or-nothing matter: they share one library, and half of them would not load.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import BaseError, CCompilerError

ROOT = Path(__file__).resolve().parent
NOTE = "_build_note.txt"  # mirror_audit/_build.py reads it under the same name
GROUP = "mirror_audit"  # the shared library becomes mirror_audit__mypyc
# The stub of a generated module of postgast is not valid Python.
MYPY_CONFIG = """
[mypy]
[mypy-postgast.pg_query_pb2]
follow_imports = skip
follow_imports_for_stubs = True
"""
BUILDING = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}


class CannotCompileError(Exception):
    """Why the hot modules cannot be compiled here."""


def hot_modules() -> list[str]:
    """The files of `[tool.mirror_audit] compiled`, as paths from the project's root."""
    with (ROOT / "pyproject.toml").open("rb") as f:
        listed: list[str] = tomllib.load(f)["tool"]["mirror_audit"]["compiled"]
    missing = [path for path in listed if not (ROOT / path).exists()]
    if missing:
        problem = f"pyproject.toml lists modules that do not exist: {' '.join(missing)}"
        if MODE == "require":
            raise CannotCompileError(problem)
        print(f"mirror_audit: {problem}", file=sys.stderr)
    return [path for path in listed if path not in missing]


def check_compiler() -> None:
    """Try the compiler that Python would use on the header that every extension needs."""
    if os.name == "nt":
        return  # setuptools finds MSVC by itself; a failure is caught when it compiles
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(command[0]) is None:
        raise CannotCompileError(f"no C compiler: {command[0]} not found")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "probe.c")
        source.write_text("#include <Python.h>\nint probe(void) { return PY_MAJOR_VERSION; }\n")
        includes = [f"-I{sysconfig.get_path(name)}" for name in ("include", "platinclude")]
        result = subprocess.run(  # noqa: S603 - the compiler that the build itself is about to run
            [*command, *includes, "-c", str(source), "-o", f"{scratch}/probe.o"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if result.returncode == 0:
        return
    if "Python.h" in result.stderr:
        raise CannotCompileError("Python.h not found: install Python's headers (Debian: python3-dev)")
    raise CannotCompileError(f"the C compiler {command[0]} does not work: {last_line(result.stderr)}")


def last_line(text: str) -> str:
    """The last line that says something."""
    return (text.strip().splitlines() or ["no message"])[-1].strip()


def extensions() -> list[Extension]:
    """Have mypyc write the C code of the hot modules."""
    modules = hot_modules()
    check_compiler()
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - not there when only metadata is asked for
    except ImportError as error:
        raise CannotCompileError(f"mypyc cannot be imported: {error}") from error
    # The project's own mypy settings are for `make types`. Here only the hot modules count, and libraries
    # that the others import need not be installed for a build.
    config = Path("build", "mypyc.ini")
    config.parent.mkdir(exist_ok=True)
    config.write_text(MYPY_CONFIG, encoding="utf-8")
    options = [
        f"--config-file={config}",
        "--cache-dir=build/mypy_cache",
        "--explicit-package-bases",
        "--follow-imports=silent",
        "--ignore-missing-imports",
    ]
    try:
        compiled: list[Any] = mypycify(
            [*options, *modules],
            opt_level="3",
            debug_level="0",
            target_dir="build/mypyc",
            group_name=GROUP,
        )
    except SystemExit as error:  # how mypyc reports a type error, after having printed it
        raise CannotCompileError("mypyc refuses the sources; see the messages above") from error
    if os.name != "nt":
        for extension in compiled:
            # mypyc asks for -Werror; a warning that a newer compiler invents is not our user's problem.
            extension.extra_compile_args.append("-Wno-error")
    return compiled


def fall_back(reason: str) -> None:
    """Go on interpreted and say so, or give up if compiling was required."""
    if MODE == "require":
        raise SystemExit(f"mirror_audit: not compiled: {reason} (MIRROR_AUDIT_COMPILE=require)")
    print(f"mirror_audit: not compiled, installed interpreted: {reason}", file=sys.stderr)


class BuildPy(build_py):
    """Start from nothing, so that no module of an earlier build gets in; leave the note."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if reason_not_compiled and not self.editable_mode:
            write_note(self.build_lib, reason_not_compiled)


class BuildExt(build_ext):
    """Compile all of the group, or take back what was compiled."""

    def run(self) -> None:
        try:
            super().run()
        except (BaseError, CCompilerError, OSError) as error:
            reason = f"the C compiler failed: {last_line(str(error))}"
            fall_back(reason)
            for output in self.get_outputs():
                Path(output).unlink(missing_ok=True)
            self.extensions = []
            if not self.editable_mode:
                write_note(self.build_lib, reason)


def write_note(build_lib: str, reason: str) -> None:
    """Leave the reason where `mirror-audit --version` finds it."""
    Path(build_lib, "mirror_audit", NOTE).write_text(reason + "\n", encoding="utf-8")


MODE = os.environ.get("MIRROR_AUDIT_COMPILE") or "auto"
if MODE not in ("auto", "0", "require"):
    raise SystemExit(f"MIRROR_AUDIT_COMPILE is {MODE!r}; it can be auto, 0 or require")

reason_not_compiled = ""
ext_modules: list[Extension] = []
if BUILDING.intersection(sys.argv):  # setup.py also runs to answer questions: no C code is needed for that
    os.chdir(ROOT)
    if MODE == "0":
        reason_not_compiled = "MIRROR_AUDIT_COMPILE=0 when it was built"
    else:
        try:
            ext_modules = extensions()
        except CannotCompileError as error:
            reason_not_compiled = str(error)
            fall_back(reason_not_compiled)

setup(ext_modules=ext_modules, cmdclass={"build_py": BuildPy, "build_ext": BuildExt})
