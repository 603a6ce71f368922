"""Compare the statement records of one session with the server's log of it.

Everything the server says it did must be told once, in its order, and nothing else. Where the log and the
wire differ by nature, the code says so beside the word "Known:"; all else is a finding, a line of text.
"""

import re

from tests.oracle.recording import Record
from tests.support.postgres import LogEntry, Server

__all__ = ["Statements"]

# What may stand between the statements of one simple Query, beside the statements.
_BETWEEN = re.compile(r"(?:[\s;]|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_ERRORS = {"ERROR", "FATAL", "PANIC"}


class Statements:
    """One session's records against its log entries."""

    def __init__(
        self,
        server: Server,
        entries: list[LogEntry],
        records: list[Record],
        transactions: dict[tuple[int, int], str],
    ) -> None:
        self.server = server
        self._all = entries
        # Known: the log has errors of a refused login and statements; durations and notices are not compared.
        self.entries = [
            entry
            for entry in entries
            if entry.kind in {"statement", "replication"}
            or (entry.kind == "error" and entry.severity in _ERRORS and entry.command_tag != "startup")
        ]
        self.records = records
        self.at = 0
        self.done = 0
        self.found: list[str] = []
        self.paired: list[tuple[list[Record], LogEntry]] = []
        self._transactions = transactions

    def compare(self) -> None:
        """Go along both."""
        for record in self.records:
            body = record["statement"]
            if body["outcome"] == "unknown":
                self.found.append(f"unknown, though all of it was captured: {_short(record)}")
            if body["coverage"]["complete"] is False and not _unknown_name(body):
                self.found.append(f"not complete: {body['coverage']} {_short(record)}")
        while self.done < len(self.records) and len(self.found) < 10:
            body = self.records[self.done]["statement"]
            if body["outcome"] == "skipped":
                self.done += 1  # Known: what is skipped after an error is not in the log.
            elif body["protocol"] == "simple":
                self._query()
            else:
                self._execute()
        for entry in self.entries[self.at :]:
            if entry.kind == "error" and entry.severity == "FATAL":
                # Known: the server may end a session without a statement; session_end says so.
                continue
            if not self.found:
                self.found.append(f"in the log, not told: {entry.kind} {entry.message!r} ({entry.text!r})")

    def _next(self) -> LogEntry | None:
        return self.entries[self.at] if self.at < len(self.entries) else None

    def _say(self, record: Record, what: str) -> None:
        entry = self._next()
        logged = None if entry is None else (entry.kind, entry.message[:300], entry.detail[:300])
        self.found.append(f"{what}: told {_short(record)}; logged {logged}")

    def _query(self) -> None:
        """A simple Query.

        Known: it is logged once with its whole text, while each of its statements has a record; so these are
        looked for in the text one after the other. A syntax error anywhere in it leaves only an error entry.
        """
        first = self.records[self.done]
        entry = self._next()
        if entry is None or entry.text is None:
            self.done += 1
            if first["statement"]["sqlstate"] != "22021":
                self._say(first, "a query that is not in the log")
            # Known: of text that is not valid in its encoding, the log has the error alone.
            self._error(first, None)
            return
        executed = entry.kind != "error"
        if executed:
            self.at += 1
        group: list[Record] = []
        at = 0
        while self.done < len(self.records) and (not group or not _blank(entry.text[at:])):
            record = self.records[self.done]
            body = record["statement"]
            start = entry.text.find(body["text"], at) if body["protocol"] == "simple" else -1
            if start < 0 or not _blank(entry.text[at:start]) or record["time"] != first["time"]:
                break
            at = start + len(body["text"])
            group.append(record)
            self.done += 1
        if not group:
            self._say(first, f"the text is not what was logged: {entry.text!r}")
            self.done += 1
            return
        if not _blank(entry.text[at:]):
            self._say(first, f"a part of the text has no record: {entry.text[at:]!r}")
        for record in group:
            self._about(record, entry)
        if executed:
            self.paired.append((group, entry))
            self._prepared(group, entry)
        errors = [r for r in group if r["statement"]["outcome"] == "error"]
        if len(errors) > 1:
            self._say(first, "more than one error in one query")
        if errors:
            behind = group[group.index(errors[0]) + 1 :]
            if any(r["statement"]["outcome"] != "skipped" for r in behind):
                self._say(first, "the rest of the query was not skipped")
            self._error(errors[0], entry.text)
        elif not executed or any(r["statement"]["outcome"] == "skipped" for r in group):
            self._say(first, "nothing failed, though the log has an error")

    def _prepared(self, group: list[Record], entry: LogEntry) -> None:
        """SQL-level EXECUTE: the log's detail has the whole PREPARE, `prepared_text` the statement in it."""
        if not entry.detail.startswith("prepare: "):
            # Known: a name that is prepared in the same query is not known yet when it is logged.
            if len(group) == 1 and group[0]["statement"]["prepared_text"] is not None:
                self._say(group[0], "prepared_text, but the server knows of none")
            return
        texts = [r["statement"]["prepared_text"] for r in group]
        if not any(text is not None and text.rstrip("; \n") in entry.detail for text in texts):
            self._say(group[0], f"prepared_text is {texts}, the server says {entry.detail!r}")

    def _execute(self) -> None:
        """An Execute (or a FunctionCall), or what failed on the way to it."""
        record = self.records[self.done]
        self.done += 1
        body = record["statement"]
        entry = self._next()
        if entry is not None and entry.kind == "statement" and self._is(body, entry):
            self.at += 1
            self._about(record, entry)
            self.paired.append(([record], entry))
            self._parameters(record, entry)
        elif body["outcome"] == "error":
            pass  # Known: what fails in Parse or Bind was never executed; the log has its error alone.
        elif body["outcome"] == "ok" and body["command_tag"] is None and _blank(body["text"] or ""):
            pass  # Known: an empty statement is not logged by the extended protocol.
        else:
            self._say(record, "not what was logged")
        if body["outcome"] == "error":
            self._error(record, body["text"])

    def _is(self, body: Record, entry: LogEntry) -> bool:
        if body["protocol"] == "function_call":
            return entry.how == "fastpath"
        if entry.how not in {"execute", "execute fetch"}:
            return False
        # Known: further rows of a suspended portal are logged as "execute fetch", with text and values again.
        name = body["prepared_name"] or "<unnamed>"
        if body["portal_name"]:
            name += "/" + body["portal_name"]
        if entry.text == body["text"]:
            return entry.name == name
        if _unknown_name(body) and entry.text is not None:
            # Known: a cursor that SQL's DECLARE made can be executed like a portal; the record has its name.
            return entry.name == name and entry.text[:7].lower() == "declare"
        # Known: of a statement that SQL's PREPARE made, the log has the whole PREPARE.
        prepared = entry.text is not None and entry.text[:7].lower() == "prepare" and entry.name == name
        return bool(prepared and body["text"] and body["text"] in (entry.text or ""))

    def _about(self, record: Record, entry: LogEntry) -> None:
        """Who it was."""
        # Known: a walsender without a database, see `_logins`.
        database = record["database"] if entry.database else ""
        name = record["application_name"] or ""
        if name != entry.application_name and name == self._next_name(entry):
            # Known: the server reports a new name before the end of the Query or Sync that sets it, which
            # counts for all of its statements; the log has the name as it was when a statement began.
            name = entry.application_name
        told = (record["user"], database, name, record["backend_pid"])
        logged = (entry.user, entry.database, entry.application_name, entry.pid)
        if told != logged:
            self.at -= 1
            self._say(record, f"told {told}, logged {logged}")
            self.at += 1

    def _next_name(self, entry: LogEntry) -> str | None:
        """The application name that the session has next."""
        names = (later.application_name for later in self._all if later.line > entry.line)
        return next((name for name in names if name != entry.application_name), None)

    def _error(self, record: Record, text: str | None) -> None:
        body = record["statement"]
        entry = self._next()
        if entry is None or entry.kind != "error":
            self._say(record, "an error that is not in the log")
            return
        self.at += 1
        told = (body["sqlstate"], body["severity"], body["message"])
        logged = (entry.sqlstate, entry.severity, entry.message)
        if told != logged:
            self.found.append(f"error told {told}, logged {logged}")
        # Known: for an error that is about no statement text (an unknown name, a commit), the log has none.
        if entry.text is not None and entry.text != text and not _unknown_name(body):
            self.found.append(f"the error is told of {text!r}, logged of {entry.text!r}")

    def _parameters(self, record: Record, entry: LogEntry) -> None:
        if _unknown_name(record["statement"]):
            return
        if record["statement"]["protocol"] == "function_call":
            return  # Known: the log does not have the arguments of a function call, nor have we.
        if record["statement"]["sqlstate"] == "25P02" and entry.parameters is None:
            return  # Known: in a failed transaction the server cannot print values.
        told = record["statement"]["parameters"] or []
        logged = entry.parameters or ()
        if len(told) != len(logged) or len(told) != (record["statement"]["parameter_count"] or 0):
            self._say(record, f"{len(told)} parameters, logged {len(logged)}")
            return
        for number, (mine, theirs) in enumerate(zip(told, logged, strict=True), 1):
            if mine["value"] != theirs and not self._same(mine, theirs):
                self.found.append(f"${number} is told as {mine}, logged as {theirs!r}: {_short(record)}")

    def _same(self, mine: Record, theirs: str | None) -> bool:
        """Whether the value that the client sent is what the server printed."""
        if mine["value"] is None or theirs is None:
            return False
        if mine["encoding"] == "hex" and mine["type"] is None:
            # Known: without a type on the wire, bytes are all there is.
            return True
        if mine["format"] != "text":
            return False
        # Known: a value in text format is told as the client wrote it, and logged as the server reads it.
        kind = mine["type"] or {"t": "bool", "f": "bool"}.get(theirs) or _guess(theirs)
        quoted = mine["value"].replace("'", "''")
        try:
            return self.server.psql(f"select format('%s', '{quoted}'::{kind})") == theirs
        except RuntimeError:
            return False

    # --- transactions ---

    def compare_transactions(self) -> None:
        """Two statements are in one transaction if the server's virtual transaction id says so."""
        before: tuple[int, str] | None = None
        for group, entry in self.paired:
            numbers = [r["statement"]["transaction"] for r in group if r["statement"]["outcome"] != "skipped"]
            virtual = self._transactions[entry.pid, entry.line]
            if None in numbers:
                self.found.append(f"in no transaction: {_short(group[0])}")
            elif (
                before is not None
                and virtual
                and not virtual.endswith("/0")
                and (before[1] == virtual) != (before[0] == numbers[0])
            ):
                self.found.append(f"after {before} {virtual} is told as {numbers[0]}: {_short(group[0])}")
            before = None
            # Known: in a failed transaction the server has no id any more; one Query is logged once, though
            # it may be in several transactions.
            if numbers[0] == numbers[-1] and virtual and not virtual.endswith("/0"):
                before = (numbers[-1], virtual)


def _guess(value: str) -> str:
    """A type that prints like this."""
    if re.fullmatch(r"-?\d+(\.\d+)?", value):
        return "numeric"
    if re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+\d\d", value):
        return "timestamptz"
    return "text"


def _blank(text: str) -> bool:
    return _BETWEEN.fullmatch(text) is not None


def _unknown_name(body: Record) -> bool:
    """Known: of a request that names what never was, or a cursor of SQL's DECLARE, no text is told."""
    reasons = body["coverage"]["reasons"]
    return reasons in (["portal_not_seen"], ["prepared_statement_not_seen"]) and body["text"] is None


def _short(record: Record) -> str:
    body = record["statement"]
    names = ("protocol", "text", "prepared_name", "portal_name", "outcome", "command_tag", "sqlstate")
    return f"{record['time']} {[body[name] for name in names]}"[:600]
