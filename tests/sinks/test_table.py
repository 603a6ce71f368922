"""The table fits its width and is harmless, whatever strangers put into their text."""

import io
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror_audit.errors import SinkError
from mirror_audit.sinks.jsonl import OutputClosedError
from mirror_audit.sinks.table import TableSink, cell_width, fit, printable, terminal_width, wants_colour
from tests.docs.examples import EXAMPLES, line

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202etxet\u2066\u200b\x9b31m\r\n\t\x00\u2028\U000e0041\ud7ff\u0085e\u0301"


def table(*lines: bytes, width: int = 120, colour: bool = False, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    TableSink(stream, width, colour).write(b"".join(lines))
    return raw.getvalue().decode(encoding).splitlines()


def test_statement() -> None:
    header, date, row = table(line("statement"), width=160)

    assert header.split() == ["time", "client", "user@database", "outcome", "what", "rows", "ms"]
    assert date == "-- 2026-11-23 (UTC) --"
    assert row.startswith("05:54:29.123 10.0.1.10:40000       app@shop             ok        UPDATE orders")
    assert "[$1='paid', $2='1042']" in row
    assert row.endswith("    1      0.8")
    assert header.index("what") == row.index("UPDATE")


def test_narrow() -> None:
    header, _, row = table(line("statement"), width=80)

    assert header.split() == ["time", "user@database", "outcome", "what", "rows", "ms"]
    assert row.startswith("05:54:29 app@shop ")
    assert len(row) == 80
    assert "..." in row


def test_date_is_told_when_it_changes() -> None:
    lines = [line("gap"), line("gap"), line("gap", time="2026-11-24T00:00:00.000000Z")]

    assert [row for row in table(*lines) if row.startswith("--")] == [
        "-- 2026-11-23 (UTC) --",
        "-- 2026-11-24 (UTC) --",
    ]


@pytest.mark.parametrize("width", [0, 80, 99, 100, 137, 200, 5000])
@pytest.mark.parametrize("colour", [False, True])
def test_every_kind_in_every_width(width: int, colour: bool) -> None:
    rows = table(*(line(kind) for kind in EXAMPLES), width=width, colour=colour)
    plain = [re.sub(r"\x1b\[\d*m", "", row) for row in rows]

    assert len(rows) == len(EXAMPLES) + 2
    assert max(map(len, plain)) <= min(max(width, 80), 200)
    assert (plain != rows) is colour


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_hostile_text_cannot_drive_a_terminal(encoding: str) -> None:
    rows = table(
        line(
            "statement",
            body={"text": HOSTILE, "sqlstate": HOSTILE, "message": HOSTILE, "outcome": "error"},
            user=HOSTILE,
            database=HOSTILE,
            client_address=HOSTILE,
            time=HOSTILE,
        ),
        line("session_start", application_name=HOSTILE, server_version=HOSTILE),
        line("gap", body={"cause": HOSTILE}),
        line("undecodable", body={"reason": HOSTILE}),
        line("encrypted_session", body={"server_name": HOSTILE, "version": HOSTILE}),
        line("replication", body={"command": HOSTILE}),
        line("cancel_request", body={"target_user": HOSTILE}),
        line("session_end", body={"message": HOSTILE, "sqlstate": HOSTILE}),
        line("login_failed", body={"message": HOSTILE}),
        line("statement_progress", body={"text": HOSTILE}),
        line("statement", body={"text": None, "prepared_name": HOSTILE}),
        encoding=encoding,
        width=200,
    )

    assert all(row.isprintable() for row in rows)
    assert len(rows) == 14, "one line a record, two dates, one header"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  SELECT\n\t1  \r\n", "SELECT 1"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\u202eb", r"a\u202eb"),
        ("a\U000e0041b", r"a\U000e0041b"),
        ("Grüße 東京", "Grüße 東京"),
        ("", ""),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("12345678", 8, "12345678"),
        ("123456789", 8, "12345..."),
        ("東京東京", 8, "東京東京"),
        ("東京東京東", 8, "東京..."),
        ("e\u0301" * 8, 8, "e\u0301" * 8),
        ("\u0301" * 1000, 8, "\u0301" * 64 + "..."),
        ("a" + " " * 1000 + "b", 8, "a..."),
        ("x" * 65536, 10, "xxxxxxx..."),
    ],
)
def test_fit(text: str, width: int, shown: str) -> None:
    assert fit(text, width) == shown


@given(st.text(st.characters(codec="utf-8")), st.integers(3, 40))
@example(HOSTILE, 10)
def test_any_text_fits_and_is_printable(text: str, width: int) -> None:
    shown = fit(text, width)

    assert shown.isprintable()
    assert cell_width(shown) <= width
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in shown)


@pytest.mark.parametrize(
    ("rows", "duration_us", "end"),
    [
        (99_999, 0, "99999      0.0"),
        (100_000, 999_999_949, " 100k 999999.9"),
        (1_000_000, 1_000_000_000, " 1.0M    1000s"),
        (99_999_999, 10**15, "99.9M    1.0Gs"),
        (10**18, 10**18, " many    1.0Ts"),
    ],
)
def test_large_numbers_stay_in_their_columns(rows: int, duration_us: int, end: str) -> None:
    row = table(line("statement", body={"rows": rows, "duration_us": duration_us}))[-1]

    assert row.endswith(end)
    assert len(row) == 120


def test_colours() -> None:
    _, _, fine, bad = table(line("statement"), line("statement", body={"outcome": "error"}), colour=True)

    assert "\x1b" not in fine
    assert "\x1b[31merror" in bad


@pytest.mark.parametrize(
    ("terminal", "environment", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_wants_colour(terminal: bool, environment: dict[str, str], colour: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    assert wants_colour(Stream(), environment) is colour


def test_width_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "99")

    assert terminal_width() == 99


@pytest.mark.parametrize(
    ("error", "raised"), [(BrokenPipeError(), OutputClosedError), (OSError(28, "full"), SinkError)]
)
def test_stream_that_fails(error: OSError, raised: type[SinkError]) -> None:
    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    sink = TableSink(Stream())
    with pytest.raises(raised):
        sink.write(line("gap"))
    sink.close()
