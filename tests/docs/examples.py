"""The records that docs/record.md shows, for every test that needs a record of some kind."""

import copy
import json
import re
from pathlib import Path
from typing import Any

__all__ = ["EXAMPLES", "line"]


PAGE = Path(__file__).resolve().parents[2] / "docs" / "record.md"


def _examples() -> dict[str, dict[str, Any]]:
    """The JSON blocks by kind. The first is a whole record, the others leave out the envelope."""
    blocks = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    parsed = [json.loads(block) for block in blocks]
    envelope = {name: value for name, value in parsed[0].items() if name != parsed[0]["kind"]}
    return {example["kind"]: envelope | example for example in parsed}


EXAMPLES = _examples()


def line(example: str, /, *, body: dict[str, Any] | None = None, **envelope: Any) -> bytes:
    """The example of a kind as a JSON line, with fields of the envelope and of the body replaced."""
    record = copy.deepcopy(EXAMPLES[example]) | envelope
    record[example] |= body or {}
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
