"""The rules that keep the package in layers, checked on the sources."""

import ast
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from mirror_audit._build import build_kind

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mirror_audit"
MODULES = sorted(PACKAGE.rglob("*.py"))
PYTHON_FILES = MODULES + sorted(
    path for folder in ("tests", "samples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)

# A module may import its own layer and those above it in this list.
LAYERS = [
    {"errors", "jsontext", "counters", "config", "octets"},
    {"_build", "capture"},
    {"packet"},
    {"pgwire"},
    {"audit"},
    {"policy", "sinks"},
    {"pipeline", "relay"},
    {"replay"},
    {"pytest_plugin"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Closed although the order would allow it: the protocol knows nothing of packets, nor does what relays it.
CLOSED = {
    "pgwire": {"capture", "packet"},
    "policy": {"capture", "packet"},
    "relay": {"capture", "packet"},
}

# A library or a door to the outside, and the only places that may use it (folders end in a slash).
ONLY_IN: dict[str, tuple[str, ...]] = {
    "asyncio": (),
    "click": ("cli/",),
    "dpkt": (),
    "postgast": (),  # audit/libpgquery.py loads one of its files
    "scapy": (),  # GPL-2.0-only: a tool for tests and samples
    "select": ("capture/files.py",),  # waits for a pipe that is still being written
    "selectors": (),
    "socket": (),
}

# Protocol code is bytes in, events out.
SANS_IO = {"packet", "pgwire", "audit", "policy"}
NOT_SANS_IO = {"logging", "multiprocessing", "random", "signal", "subprocess", "threading", "time"}

MAX_LINES = 500
OVER = "Over 500 lines because"

# Tests that are about no single module.
FREE_TESTS = {
    "test_architecture.py",
    "test_packaging.py",
    "capture/test_formats.py",  # pcap and pcapng, the same cases
    "capture/test_real_captures.py",
    # of the whole program
    "test_builds_agree.py",
    "test_loss.py",
    "test_mutations.py",
    "test_readme.py",
    "test_real_captures.py",
    "test_samples.py",
}
FREE_FOLDERS = {"docs", "oracle", "support"}

# Written in pieces, or this file would find itself.
NOT_IN_REPOSITORY = [
    "pypi" + ".org",
    "python" + "hosted",
    "/work/" + "main",
    "/work/" + "shared",
    "/tmp/" + "venv",
    "/opt/" + "wheels",
    "/ro" + "ot/",
]


def _hot_modules() -> list[str]:
    with (ROOT / "pyproject.toml").open("rb") as f:
        listed: list[str] = tomllib.load(f)["tool"]["mirror_audit"]["compiled"]
    return listed


def _inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(path: Path) -> set[str]:
    """Dotted names of what the module imports, `from a import b` as a.b, wherever the statement stands."""
    found: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def _layer(path: Path) -> str:
    """The part of the package that a module belongs to: its folder's name, or its own."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imported_layers(path: Path) -> set[str]:
    names = (name.split(".") for name in _imports(path) if name.startswith("mirror_audit."))
    return {parts[1] for parts in names if parts[1] != "__version__"}


def _public_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("path", MODULES, ids=_inside)
def test_imports_follow_the_layers(path: Path) -> None:
    layer = _layer(path)
    if layer == "__init__":  # the public names, from wherever they are defined
        assert "cli" not in _imported_layers(path)
        return
    assert layer in RANK, f"{_inside(path)}: give {layer} a place in LAYERS"
    for imported in _imported_layers(path):
        assert imported in RANK, f"{_inside(path)}: give {imported} a place in LAYERS"
        assert RANK[imported] <= RANK[layer], f"{_inside(path)} ({layer}) may not import {imported}"
        assert imported not in CLOSED.get(layer, ()), f"{_inside(path)} ({layer}) may not import {imported}"


@pytest.mark.parametrize("path", MODULES, ids=_inside)
def test_libraries_and_sockets_stay_where_they_belong(path: Path) -> None:
    roots = {name.split(".")[0] for name in _imports(path)}
    for library, places in ONLY_IN.items():
        if library in roots:
            assert _inside(path).startswith(places), f"{_inside(path)} imports {library}"
    if _layer(path) in SANS_IO:
        assert not roots & NOT_SANS_IO, f"{_inside(path)}: protocol code has no clock, thread or log"


@pytest.mark.parametrize("path", MODULES, ids=_inside)
def test_module_says_what_it_is_for_and_what_is_public(path: Path) -> None:
    tree = _tree(path)
    if path.name == "__init__.py" and not tree.body:
        return
    assert ast.get_docstring(tree), f"{_inside(path)} has no docstring"
    if path.name != "__init__.py" and _public_names(tree) - {"main"}:
        assigned = [n.value for n in tree.body if isinstance(n, ast.Assign) and _assigns_all(n)]
        assert assigned, f"{_inside(path)} has public names but no __all__"
        listed = ast.literal_eval(assigned[0])
        assert len(set(listed)) == len(listed)


def _assigns_all(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)


def test_no_file_is_too_long() -> None:
    long = {}
    for path in PYTHON_FILES:
        text = path.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MAX_LINES and OVER not in (ast.get_docstring(ast.parse(text)) or ""):
            long[path.relative_to(ROOT).as_posix()] = lines
    assert not long, f"split them, or say '{OVER} ...' in the docstring"


@pytest.mark.parametrize("listed", _hot_modules())
def test_hot_module_is_built_as_the_rest(listed: str) -> None:
    assert (ROOT / listed).is_file()
    module = importlib.import_module(listed.removesuffix(".py").replace("/", "."))
    interpreted = str(module.__file__).endswith(".py")
    assert interpreted == (build_kind() == "interpreted")


def test_modules_with_native_integers_are_compiled() -> None:
    # i64 is slower than int where it is not compiled: whoever uses it means a hot module.
    use_i64 = {f"mirror_audit/{_inside(path)}" for path in MODULES if "mypy_extensions.i64" in _imports(path)}
    assert use_i64 - set(_hot_modules()) == set(), "list them in pyproject.toml, [tool.mirror_audit] compiled"


def test_tests_mirror_the_package() -> None:
    strays = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        folder = path.parent.relative_to(ROOT / "tests")
        if (folder / path.name).as_posix() in FREE_TESTS or set(folder.parts[:1]) & FREE_FOLDERS:
            continue
        # test_decap.py and test_decap_fuzz.py are both about decap
        words = path.stem.removeprefix("test_").split("_")
        subjects = [PACKAGE / folder / "_".join(words[:n]) for n in range(1, len(words) + 1)]
        if not any(subject.is_dir() or subject.with_suffix(".py").is_file() for subject in subjects):
            strays.append(path.relative_to(ROOT).as_posix())
    assert not strays, "name a test file for its module: tests/packet/test_decap.py for packet/decap.py"


def test_skips_can_be_made_failures() -> None:
    bare = {"pytest.skip", "pytest.importorskip"}
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name != "require.py"
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in bare
    }
    assert not found, "use tests/require.py: CI must not skip what it lacks"


def _repository_files() -> list[Path]:
    """What git tracks or would; in an unpacked archive, everything that is not hidden or made."""
    git = ["git", "-C", str(ROOT), "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        listed = subprocess.run([*git, "-co", "--exclude-standard"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        made = re.compile(r"/\.|/build/|__pycache__")
        return [p for p in ROOT.rglob("*") if p.is_file() and not made.search(f"/{p.relative_to(ROOT)}")]
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_repository_names_no_package_index_and_no_machine() -> None:
    words = [word.encode() for word in NOT_IN_REPOSITORY]
    found = [
        f"{path.relative_to(ROOT)}: {word.decode()}"
        for path in _repository_files()
        for data in [path.read_bytes()]
        for word in words
        if word in data
    ]
    assert not found
