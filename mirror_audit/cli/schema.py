"""`mirror-audit schema`: the JSON Schema of a record."""

import click

from mirror_audit.audit.schema import schema_text
from mirror_audit.sinks.jsonl import JsonlSink

__all__ = ["schema"]


@click.command()
def schema() -> None:
    """Print the JSON Schema (draft 2020-12) of a record."""
    JsonlSink.stdout().write(schema_text().encode())
