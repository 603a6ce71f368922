"""The conversations of samples/ for tests: that directory is no part of the package and not on the path."""

import importlib
import importlib.util
import sys
from pathlib import Path

__all__ = ["CONVERSATIONS", "SAMPLES", "Conversation", "Place", "prepare"]

SAMPLES = Path(__file__).parents[2] / "samples"

if "samples" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("samples", SAMPLES / "__init__.py")
    assert _spec is not None
    assert _spec.loader is not None
    _package = importlib.util.module_from_spec(_spec)
    sys.modules["samples"] = _package
    _spec.loader.exec_module(_package)

from samples.conversations import CONVERSATIONS, Conversation, Place, prepare  # noqa: E402
