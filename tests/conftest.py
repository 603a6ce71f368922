"""For all tests: which build is under test, and how hard hypothesis tries."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import mirror_audit
from mirror_audit._build import build_kind, describe_build

# A shared machine is slow in bursts: time says nothing about the code, so there is no deadline.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("fast", _PATIENT, max_examples=50, derandomize="CI" in os.environ)
settings.register_profile("deep", _PATIENT, max_examples=5_000)
settings.load_profile(os.environ.get("MIRROR_AUDIT_HYPOTHESIS", "fast"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--build",
        choices=["compiled", "interpreted"],
        help="refuse to run unless the mirror_audit that is imported was built this way",
    )


def pytest_configure(config: pytest.Config) -> None:
    expected = config.getoption("--build")
    if expected is None or expected == build_kind():
        return
    hint = "no .so files may lie in the checkout" if expected == "interpreted" else "make clean builds anew"
    raise pytest.UsageError(f"these tests are for the {expected} build, but this is {_under_test()}: {hint}")


def pytest_report_header() -> str:
    return f"mirror_audit {_under_test()}"


def _under_test() -> str:
    return f"{mirror_audit.__version__}, {describe_build()}, in {Path(mirror_audit.__file__).parent}"


@pytest.fixture(scope="session")
def compiled() -> bool:
    """Whether the hot modules under test are compiled."""
    return build_kind() == "compiled"
