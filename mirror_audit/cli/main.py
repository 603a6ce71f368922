"""The command `mirror-audit`: its commands, its exit codes, and one sentence instead of a traceback.

Exit codes: 0 done; 1 the output could not be written, or a defect of this program; 2 a wrong command line,
or at least one file that was unusable or damaged; 130 interrupted.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click

from mirror_audit import __version__
from mirror_audit._build import build_kind
from mirror_audit.cli.replay import replay
from mirror_audit.cli.schema import schema
from mirror_audit.errors import CaptureError, ConfigError, MirrorAuditError
from mirror_audit.sinks.jsonl import OutputClosedError, silence_stdout
from mirror_audit.sinks.table import printable

__all__ = ["main"]


class _Group(click.Group):
    """A group that maps every end of a command to an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As in click; when standalone, exits with the codes above and never shows a traceback."""

        def run() -> Any:
            return super(_Group, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        sys.exit(_exit_code(run))


def _exit_code(command: Callable[[], Any]) -> int:
    try:
        result = command()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except OutputClosedError:
        silence_stdout()
        return 0
    except (CaptureError, ConfigError) as error:
        complain(str(error))
        return 2
    except MirrorAuditError as error:
        complain(str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, users get one sentence
        if os.environ.get("MIRROR_AUDIT_DEBUG") == "1":
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        complain(
            f"this is a defect of mirror-audit {__version__} ({what}); please report it, with what "
            "MIRROR_AUDIT_DEBUG=1 shows"
        )
        return 1
    return result if isinstance(result, int) else 0


def complain(sentence: str) -> None:
    """One line on standard error."""
    click.echo(f"mirror-audit: {printable(sentence)}", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"mirror-audit %(version)s ({build_kind()})")
def main() -> None:
    """Audit records of who did what in PostgreSQL, read from captured traffic."""


main.add_command(replay)
main.add_command(schema)
