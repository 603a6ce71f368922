"""How this installation was built: compiled by mypyc, or interpreted, and then why.

`python -m mirror_audit._build` prints it in one line. The hot modules are compiled together or not at all
(see setup.py), so one of them answers for all. The reason comes from a note that setup.py leaves in the
installed package; a source tree that was never installed has no note.
"""

from pathlib import Path
from typing import Final, Literal

from mirror_audit import jsontext

__all__ = ["build_kind", "build_reason", "describe_build"]

_NOTE: Final = "_build_note.txt"  # setup.py writes it under the same name


def build_kind() -> Literal["compiled", "interpreted"]:
    """Whether the hot modules are machine code. Both give the same records; interpreted is far slower."""
    return "interpreted" if str(jsontext.__file__).endswith((".py", ".pyc")) else "compiled"


def build_reason() -> str | None:
    """Why the modules were not compiled, as one phrase; None if they were."""
    if build_kind() == "compiled":
        return None
    try:
        note = Path(jsontext.__file__).with_name(_NOTE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "run from a source tree"
    return note or "unknown"


def describe_build() -> str:
    """`compiled`, or `interpreted (REASON)`."""
    reason = build_reason()
    return build_kind() if reason is None else f"interpreted ({reason})"


if __name__ == "__main__":
    print(describe_build())
