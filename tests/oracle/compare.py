"""Compare audit records with the log of the server that was audited: sessions, logins, transaction blocks.

Statements have `tests.oracle.statements`. Where the log and the wire differ by nature, the code says so
beside the word "Known:"; all else that differs is a finding, a line of text.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.oracle.recording import Record, Recording
from tests.oracle.statements import Statements
from tests.support.postgres import LogEntry

__all__ = ["Log", "differences"]


class Log:
    """The entries of one recording, by the server's process; `transactions` are the server's own numbers."""

    def __init__(self, entries: Iterable[LogEntry], path: Path, known: set[str]) -> None:
        """`known`: names of sessions from before the recording."""
        self.sessions: dict[int, list[LogEntry]] = defaultdict(list)
        for entry in entries:
            if entry.session not in known:
                self.sessions[entry.pid].append(entry)
        for found in self.sessions.values():
            found.sort(key=lambda entry: entry.line)
        self.transactions: dict[tuple[int, int], str] = {}
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
            for row in csv.reader(lines):
                if len(row) >= 23 and row[5] not in known and row[5]:
                    self.transactions[int(row[3]), int(row[6])] = row[9]


def differences(recording: Recording, records: Sequence[Record], log: Log) -> list[str]:
    """What the records and the log say differently, a line each; empty if they agree."""
    found = _logins(recording, records, log)
    found += [
        f"{n} records have the id {one}" for one, n in Counter(r["id"] for r in records).items() if n > 1
    ]
    by_pid: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        if record["kind"] == "statement":
            by_pid[record["backend_pid"]].append(record)
        elif record["kind"] in {"gap", "undecodable"}:
            found.append(f"nothing was lost, but: {record}")
    for pid in sorted(set(by_pid) - set(log.sessions), key=str):
        found += [f"pid {pid}: not in the log: {record}" for record in by_pid[pid]]
    for pid, entries in log.sessions.items():
        session = Statements(recording.place.server, entries, by_pid.get(pid, []), log.transactions)
        # Known: what goes through TLS is in the log alone.
        if not any("SSL enabled" in entry.message for entry in entries):
            session.compare()
            session.compare_transactions()
        found += [f"pid {pid}: {line}" for line in session.found]
        found += [f"pid {pid}: {line}" for line in _ends(pid, entries, records) + _blocks(pid, records)]
    return found


def _logins(recording: Recording, records: Sequence[Record], log: Log) -> list[str]:
    """Logins authorized and refused equal session_start and login_failed; so do encrypted sessions."""
    expected: Counter[tuple[object, ...]] = Counter()
    for entries in log.sessions.values():
        expected[_login(entries, true_ports=recording.true_ports)] += 1
    told: Counter[tuple[object, ...]] = Counter()
    for record in records:
        body = record[record["kind"]]
        port = record["client_port"] if recording.true_ports else None
        # Known: of a walsender without a database the log names none; libpq's startup message says
        # "replication".
        physical = record["kind"] == "session_start" and body["replication"] == "physical"
        who = (record["user"], "" if physical else record["database"], port)
        if record["kind"] == "session_start":
            told["start", *who, record["backend_pid"]] += 1
        elif record["kind"] == "login_failed" and body["sqlstate"] is not None:
            told["failed", *who, body["sqlstate"]] += 1
        elif record["kind"] == "login_failed" or record["kind"] == "cancel_request":
            # Known: of a client that leaves when it is asked for a password, and of one that comes to cancel,
            # the server logs nothing but its address.
            told["nothing", port] += 1
        elif record["kind"] == "encrypted_session" and body["protocol"] == "tls":
            told["encrypted", port] += 1
    return [f"login in the log, not told: {one}" for one in expected - told] + [
        f"login told, not in the log: {one}" for one in told - expected
    ]


def _login(entries: list[LogEntry], *, true_ports: bool) -> tuple[object, ...]:
    client = next(entry.client for entry in entries if entry.client)
    port = int(client.rpartition(":")[2]) if true_ports else None
    authorized = next((entry for entry in entries if entry.kind == "connected"), None)
    if authorized is not None and "SSL enabled" in authorized.message:
        return ("encrypted", port)
    # Known: a session is authorized before its database is opened; the refusal is logged as "startup".
    refused = next(
        (
            entry
            for entry in entries
            if entry.severity == "FATAL" and (entry.kind == "failed" or entry.command_tag == "startup")
        ),
        None,
    )
    if refused is not None:
        database = _database(entries) or refused.database
        return ("failed", refused.user, database, port, refused.sqlstate)
    if authorized is None:
        return ("nothing", port)
    return ("start", authorized.user, authorized.database, port, authorized.pid)


def _database(entries: list[LogEntry]) -> str | None:
    return next((entry.database for entry in entries if entry.database), None)


def _ends(pid: int, entries: list[LogEntry], records: Sequence[Record]) -> list[str]:
    """One session_end for each disconnection, with the number of statements and errors that were told."""
    found = []
    ends = [r for r in records if r["kind"] == "session_end" and r["backend_pid"] == pid]
    statements = [r["statement"] for r in records if r["kind"] == "statement" and r["backend_pid"] == pid]
    if any("SSL enabled" in entry.message for entry in entries):
        return [] if not statements else ["statements of an encrypted session"]
    if len(ends) != 1 and _login(entries, true_ports=False)[0] == "start":
        found.append(f"{len(ends)} session_end")
    for end in ends:
        body = end["session_end"]
        if body["statements"] != len(statements):
            found.append(f"session_end counts {body['statements']} statements of {len(statements)}")
        if body["errors"] != sum(one["outcome"] == "error" for one in statements):
            found.append(f"session_end counts {body['errors']} errors")
        last = max((one["transaction"] or 0 for one in statements), default=0)
        if body["transactions"] < last:
            found.append(f"session_end counts {body['transactions']} transactions, the last one was {last}")
        told = sum(one["rows"] or 0 for one in statements)
        if body["rows"] != told:
            found.append(f"session_end counts {body['rows']} rows of {told}")
    return found


def _blocks(pid: int, records: Sequence[Record]) -> list[str]:
    """The records about transaction blocks fit those about their statements."""
    found = []
    statements: dict[int, list[Record]] = defaultdict(list)
    last = 0
    open_blocks: set[int] = set()
    for record in records:
        if record["backend_pid"] != pid:
            continue
        if record["kind"] == "statement" and record["statement"]["outcome"] != "skipped":
            body = record["statement"]
            statements[body["transaction"]].append(body)
            if not last <= body["transaction"] <= last + 1:
                found.append(f"transaction {body['transaction']} after {last}")
            last = body["transaction"]
            if body["transaction_before"] != "I" or body["transaction_after"] != "I":
                open_blocks.add(last)
        elif record["kind"] == "transaction_end":
            end = record["transaction_end"]
            inside = statements[end["transaction"]]
            # AND CHAIN opens a block in which there may be no statement any more.
            # Statements of one Query or pipeline share a transaction; if one fails, the others are undone.
            undone = len(inside) > 1 and any(body["outcome"] == "error" for body in inside)
            if inside and end["transaction"] not in open_blocks and not undone:
                found.append(f"{end} ends nothing")
            open_blocks.discard(end["transaction"])
            # ROLLBACK of what was a COMMIT has the tag of what happened; an open block ends with its session.
            tag = inside[-1]["command_tag"] if inside and inside[-1]["outcome"] == "ok" else None
            outcome = {"COMMIT": "committed", "PREPARE TRANSACTION": "unknown"}.get(tag or "", "rolled_back")
            if end["statements"] != len(inside) or end["outcome"] != outcome:
                found.append(f"{end}, but there were {len(inside)} statements and it was {outcome}")
    if open_blocks:
        found.append(f"no end of the transactions {sorted(open_blocks)}")
    return found
