"""Each kind of record in words."""

from typing import Any

import pytest

from mirror_audit.audit.record import Record
from mirror_audit.sinks.words import Words, describe
from tests.docs.examples import line


def words(kind: str, body: dict[str, Any] | None = None, **envelope: Any) -> Words:
    return describe(Record(line(kind, body=body, **envelope)))


PARAMETERS = {
    "NULL": {"value": None, "encoding": None, "length": None},
    "(redacted)": {"value": None, "encoding": None, "redacted": True},
    "hmac:ab12": {"value": "ab12", "encoding": "hmac", "redacted": True},
    "hex:00ff...": {"value": "00ff", "encoding": "hex", "truncated": True},
    "'x...'": {"value": "x", "encoding": "text", "truncated": True},
}


@pytest.mark.parametrize(("shown", "changes"), PARAMETERS.items(), ids=PARAMETERS)
def test_parameter(shown: str, changes: dict[str, Any]) -> None:
    parameter = {
        "oid": 25,
        "type": "text",
        "format": "text",
        "length": 4,
        "truncated": False,
        "sha256": None,
        "redacted": False,
    }

    assert words("statement", {"text": "T", "parameters": [parameter | changes]}).what == f"T  [$1={shown}]"


def test_statements() -> None:
    plain: dict[str, Any] = {"text": "SELECT 1", "parameters": None}

    assert words("statement", plain) == Words("ok", "SELECT 1", "plain", 1, 830)
    assert words("statement", plain | {"text_truncated": True}).what == "SELECT 1..."
    assert words("statement", plain | {"text": None}).what == "(text was not seen)"
    unseen = words("statement", plain | {"text": None, "prepared_name": "p1"})
    assert unseen.what == '(prepared statement "p1", its text was not seen)'
    failed = words("statement", plain | {"outcome": "error", "sqlstate": "42P01", "message": "no such table"})
    assert (failed.label, failed.what, failed.tone) == ("error", "42P01 no such table | SELECT 1", "bad")
    copied = words("statement", plain | {"copy": {"direction": "in", "rows": 5, "bytes": 1234}})
    assert copied.what == "SELECT 1  [5 rows, 1,234 bytes in]"
    coverage = {"complete": False, "bytes_lost": 9, "reasons": ["response_gap", "one_sided"]}
    lost = words("statement", plain | {"coverage": coverage, "outcome": "unknown"})
    assert (lost.what, lost.tone) == ("[incomplete: response gap, one sided] SELECT 1", "warning")
    assert words("statement", plain | {"outcome": "suspended"}).label == "suspended"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {},
            (
                "1,448 bytes from the server were not captured; 312 bytes after them cannot be read; "
                "reading goes on"
            ),
        ),
        (
            {"recovered": False, "cause": "truncated", "bytes_undecoded": 0, "gaps": 3},
            "1,448 bytes from the server in 3 places were cut off by the capture",
        ),
        (
            {"direction": "client_to_server", "bytes": 0, "cause": "one_sided", "bytes_undecoded": 0},
            "an unknown number of bytes from the client are missing: one sided; reading goes on",
        ),
    ],
)
def test_gap(changes: dict[str, Any], what: str) -> None:
    assert words("gap", changes).what == what


@pytest.mark.parametrize(
    ("kind", "changes", "label", "what"),
    [
        ("session_start", {}, "login", "from 10.0.1.10, scram-sha-256, checkout, server 15.8"),
        (
            "session_start",
            {"joined": "mid_stream", "authentication": None, "replication": "physical"},
            "login",
            "from 10.0.1.10, found running, physical replication, checkout, server 15.8",
        ),
        ("login_failed", {}, "refused", '28P01 password authentication failed for user "app"'),
        ("login_failed", {"sqlstate": None, "message": None}, "refused", "given up by the client"),
        ("session_end", {}, "logout", "logged out; 12 statements"),
        (
            "session_end",
            {"reason": "fatal", "sqlstate": "57P01", "message": "shutdown", "statements": 1},
            "logout",
            "ended by the server: 57P01 shutdown; 1 statement",
        ),
        ("statement_progress", {}, "running", "COPY orders TO STDOUT"),
        ("statement_progress", {"text": None}, "running", "(text was not seen)"),
        ("transaction_end", {}, "commit", "transaction 3, 5 statements"),
        ("transaction_end", {"outcome": "rolled_back"}, "rollback", "transaction 3, 5 statements"),
        ("cancel_request", {}, "cancel", "asks to cancel the statement of app@shop, process 4711"),
        (
            "cancel_request",
            {"target_user": None, "target_database": None},
            "cancel",
            "asks to cancel the statement of ?@?, process 4711",
        ),
        ("encrypted_session", {}, "encrypted", "TLSv1.3 session cannot be read, asks for db.example.com"),
        (
            "encrypted_session",
            {"protocol": "gssapi", "version": None, "server_name": None, "decoded": True},
            "encrypted",
            "GSSAPI session decrypted",
        ),
        (
            "replication",
            {"command": "START_REPLICATION 0/1"},
            "replicate",
            "START_REPLICATION 0/1, ended after 16,777,216 bytes",
        ),
        ("replication", {"command": None, "ended": False}, "replicate", "replication, begins"),
        ("undecodable", {}, "undecoded", "312 bytes from the client passed over: not postgresql"),
    ],
)
def test_others(kind: str, changes: dict[str, Any], label: str, what: str) -> None:
    assert (words(kind, changes).label, words(kind, changes).what) == (label, what)
