"""What a real server says it did: PostgreSQL's csvlog as entries that tests compare records with.

Needs log_statement = all. A statement is logged when it is executed: simple queries after they were parsed
(so a syntax error leaves an error entry alone), extended ones at Execute, with the values of Bind in their
text form.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["LogEntry", "parse_log", "parse_parameters"]

Kind = Literal[
    "statement", "error", "connected", "failed", "disconnected", "replication", "duration", "other"
]
How = Literal["statement", "execute", "execute fetch", "fastpath"]

_EXECUTE = re.compile(r"execute (fetch from )?(.*?): (.*)", re.DOTALL)
_PARAMETER = re.compile(r"\$(\d+) = (NULL|'(?:[^']|'')*')(?:, |$)", re.DOTALL)
_REPLICATION = "received replication command: "


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the log.

    `text` is the statement (of an error: the one it belongs to, if the server names it); `parameters` the
    values as the server prints them, None when it printed none; `message` the message as logged.
    """

    kind: Kind
    time: str
    pid: int
    session: str
    line: int
    user: str
    database: str
    application_name: str
    severity: str
    sqlstate: str
    message: str
    detail: str
    command_tag: str
    text: str | None = None
    how: How | None = None
    name: str | None = None
    parameters: tuple[str | None, ...] | None = None
    duration_ms: float | None = None
    client: str = ""


def parse_parameters(detail: str) -> tuple[str | None, ...] | None:
    """The values in a DETAIL of "parameters: $1 = 'x', $2 = NULL" (from PostgreSQL 16 on "Parameters: ")."""
    if not detail[:12].lower().startswith("parameters: "):
        return None
    values: list[str | None] = []
    for number, value in _PARAMETER.findall(detail[12:]):
        if int(number) != len(values) + 1:
            raise ValueError(f"parameters out of order: {detail!r}")
        values.append(None if value == "NULL" else value[1:-1].replace("''", "'"))
    return tuple(values)


def parse_log(path: Path) -> list[LogEntry]:
    """All entries of a csvlog, in the order in which the server's logger wrote them."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return [_entry(row) for row in csv.reader(lines) if len(row) >= 23]


def _entry(row: list[str]) -> LogEntry:
    message, detail = row[13], row[14]
    kind: Kind = "other"
    text: str | None = None
    how: How | None = None
    name: str | None = None
    parameters: tuple[str | None, ...] | None = None
    duration: float | None = None
    if row[11] in {"ERROR", "FATAL", "PANIC"}:
        kind = "failed" if row[7] == "authentication" or row[12].startswith("28") else "error"
        text = row[19] or None
    elif message.startswith("statement: "):
        kind, how, text = "statement", "statement", message[11:]
    elif message.startswith(("connection authorized:", "replication connection authorized:")):
        kind = "connected"
    elif message.startswith("disconnection:"):
        kind = "disconnected"
    elif message.startswith(_REPLICATION):
        kind, text = "replication", message[len(_REPLICATION) :]
    elif message.startswith("duration: "):
        kind, duration = "duration", float(message.split()[1])
    elif message.startswith("fastpath function call: "):
        kind, how = "statement", "fastpath"
        text = message[24:]
    elif match := _EXECUTE.fullmatch(message):
        kind, how, name, text = "statement", "execute fetch" if match[1] else "execute", match[2], match[3]
        parameters = parse_parameters(detail)
    return LogEntry(
        kind,
        row[0],
        int(row[3]),
        row[5],
        int(row[6]),
        row[1],
        row[2],
        row[22],
        row[11],
        row[12],
        message,
        detail,
        row[7],
        text,
        how,
        name,
        parameters,
        duration,
        row[4],
    )
