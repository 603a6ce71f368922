"""What the README and docs/library.md show works as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/library.md")


def _blocks(language: str) -> list[tuple[str, str]]:
    """The fenced code blocks of a language, with the page they stand on."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        found += [(page, body) for body in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]
    return found


def _commands() -> list[str]:
    """The mirror-audit commands of all pages."""
    lines = [line.split("#")[0].strip() for _, body in _blocks("") for line in body.splitlines()]
    return [line for line in lines if line.startswith("mirror-audit ")]


def test_there_is_something_to_try() -> None:
    assert len(_commands()) >= 5
    assert len(_blocks("python")) >= 3


@pytest.mark.parametrize("command", _commands())
def test_command(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)[1:]
    words = [str(tmp_path / word) if word.startswith("records.") else word for word in words]
    ran = subprocess.run(
        [sys.executable, "-m", "mirror_audit", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout or (tmp_path / "records.jsonl").stat().st_size > 0


@pytest.mark.parametrize(("page", "code"), _blocks("python"))
def test_python(page: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(compile(code, page, "exec"), names)
    if "replay(" in code and "audit_replay" not in code:
        assert "record" in names


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"^make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
