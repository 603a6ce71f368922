"""`mirror-audit schema` prints the schema, also into a pipe that is closed early."""

import subprocess
import sys

from click.testing import CliRunner

from mirror_audit.audit.schema import schema_text
from mirror_audit.cli.main import main


def test_schema() -> None:
    result = CliRunner().invoke(main, ["schema"])

    assert (result.exit_code, result.stdout, result.stderr) == (0, schema_text(), "")


def test_reader_goes_away() -> None:
    command = [sys.executable, "-m", "mirror_audit", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
