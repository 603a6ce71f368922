"""What a test needs beyond Python: skip without it, or fail where everything has to be there.

A machine of one's own may lack PostgreSQL or tshark; then those tests are skipped and say what is missing.
In CI the environment variable MIRROR_AUDIT_REQUIRE=all turns each such skip into a failure, so that none goes
unseen.
"""

import os
import shutil

import pytest

__all__ = ["require", "require_program"]


def require(condition: object, reason: str) -> None:
    """Go on if `condition` holds; otherwise skip with `reason`, or fail with it if everything is required.

    Works in a test, in a fixture and at the top of a module.
    """
    if condition:
        return
    if os.environ.get("MIRROR_AUDIT_REQUIRE") == "all":
        pytest.fail(f"required here: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def require_program(name: str, *folders: str) -> str:
    """The path of program `name`, looked for in `folders` and then in PATH; skip or fail without it."""
    path = shutil.which(name, path=os.pathsep.join(folders)) if folders else None
    path = path or shutil.which(name)
    require(path, f"the program {name} is not installed")
    assert path is not None
    return path
