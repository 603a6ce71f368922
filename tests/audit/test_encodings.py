"""Texts in the client's own encoding, and bytes that are valid in none."""

import base64

import pytest

from mirror_audit.audit.encodings import codec_of, to_utf8
from tests.audit.conversation import SELECTED, done, opened, records, talk
from tests.support.pgmsg import (
    bind,
    bind_complete,
    data_row,
    execute,
    login,
    parameter_status,
    parse,
    parse_complete,
    query,
    ready,
    sync,
)


@pytest.mark.parametrize(
    ("encoding", "codec", "text"),
    [
        ("LATIN1", "latin-1", "select 'Grüße'"),
        ("WIN1252", "cp1252", "select '€'"),
        ("SJIS", "cp932", "select '表'; delete from 表"),
        ("EUC_JP", "euc_jp", "select '表'"),
        ("GB18030", "gb18030", "select '中文'"),
        ("KOI8R", "koi8-r", "select 'Привет'"),
        ("UTF8", "utf-8", "select 'Grüße, 表'"),
        ("SQL_ASCII", "utf-8", "select 'Grüße, 表'"),
    ],
)
def test_text_and_value(encoding: str, codec: str, text: str) -> None:
    trace = opened(
        greeting=login().replace(
            parameter_status("client_encoding", "UTF8"), parameter_status("client_encoding", encoding)
        )
    )
    parts = text.split("; ")
    trace.client(query(text.encode(codec)))
    trace.server(done("SELECT 1", "DELETE 0") if len(parts) > 1 else done("SELECT 1"))
    trace.client(parse(parts[0].encode(codec)) + bind([text.encode(codec)]) + execute() + sync())
    trace.server(parse_complete() + bind_complete() + data_row("1") + done("SELECT 1"))
    found = records(trace)

    assert [one.strip() for one in found.columns("text")] == [*parts, parts[0]]
    assert set(found.columns("text_base64")) == {None}
    assert found.statements[-1]["parameters"][0]["value"] == text
    assert found.statements[-1]["text_length"] == len(parts[0].encode(codec))


def test_a_semicolon_inside_a_character() -> None:
    """The second byte of a SJIS character may be a backslash: it escapes nothing."""
    trace = opened()
    trace.client(query("set client_encoding to sjis"))
    trace.server(parameter_status("client_encoding", "SJIS") + done("SET"))
    trace.client(query("select E'表'; drop table x; --'".encode("cp932")))
    trace.server(SELECTED + done("DROP TABLE"))
    found = records(trace)

    assert [(tag, one.strip()) for tag, one in found.columns("command_tag", "text")][1:3] == [
        ("SELECT 1", "select E'表'"),
        ("DROP TABLE", "drop table x"),
    ]


def test_bytes_that_are_no_text() -> None:
    raw = b"select '\xff\xfe'"
    (body,) = records(talk((query(raw), SELECTED + ready()))).statements

    assert base64.b64decode(body["text_base64"]) == raw
    assert body["text"].startswith("select '")
    assert body["text_length"] == len(raw)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        (b"LATIN1", "latin-1"),
        (b"iso-8859-1", "latin-1"),
        (b"ISO_8859_5", "iso8859-5"),
        (b"EUC_JP", "euc_jp"),
        (b"shift_jis_2004", "shift_jis_2004"),
        (b"UTF8", None),
        (b"SQL_ASCII", None),
        (b"MULE_INTERNAL", None),
        (b"no such \xff", None),
    ],
)
def test_codec_of(name: bytes, codec: str | None) -> None:
    assert codec_of(name) == codec


@pytest.mark.parametrize(
    ("raw", "codec", "expected"),
    [
        (b"abc\\", "cp932", b"abc\\"),
        ("ä".encode("latin-1"), "latin-1", "ä".encode()),
        (b"\x81", "cp932", b"\x81"),
        (b"\xe4", "no-such-codec", b"\xe4"),
        ("表\\".encode("shift_jis_2004"), "shift_jis_2004", "表\\".encode()),
    ],
)
def test_to_utf8(raw: bytes, codec: str, expected: bytes) -> None:
    assert to_utf8(raw, codec) == expected
