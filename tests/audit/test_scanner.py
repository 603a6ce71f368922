"""The lexer and what is built on its tokens, against tables and against libpg_query."""

import postgast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.audit import lexer
from mirror_audit.audit.comment_tags import MAX_TAGS, comment_tags
from mirror_audit.audit.lexer import Lexer
from mirror_audit.audit.nesting import nesting
from mirror_audit.audit.scanner import (
    DML,
    HAS_COMMENT,
    LONG_DIGITS,
    SECRET_WORD,
    UNTERMINATED,
    Scan,
    literal_spans,
    scan,
    split_statements,
    tokens,
)

# Pieces of which hostile and odd texts are made.
FRAGMENTS = [
    *(
        "'",
        "''",
        '"',
        '""',
        "$$",
        "$a$",
        "$a",
        "E'",
        "\\'",
        "\\",
        "U&'",
        'U&"',
        "N'",
        "B'",
        "x'",
        "--",
        "\n",
        "/*",
        "*/",
    ),
    *(
        ";",
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "..",
        "::",
        "+",
        "-",
        "/",
        "*",
        "=",
        " ",
        "\t",
        "a",
        "e",
        "b$c",
        "é",
        "\0",
    ),
    *(
        "1",
        "1.5",
        ".5",
        "1e5",
        "1e",
        "0x1F",
        "0b1",
        "1_000",
        "1_",
        "5000000000",
        "$1",
        "$1a",
        "4111111111111111",
    ),
    *(
        "select",
        "values",
        "in",
        "order by",
        "group by",
        "begin atomic",
        "end",
        "case",
        "create",
        "uescape",
        "as",
    ),
]
hostile = st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join).map(str.encode)


def skeleton(text: str | bytes, standard_conforming: bool = True) -> str:
    out = Scan()
    scan(text if isinstance(text, bytes) else text.encode(), standard_conforming, out)
    return out.skeleton.decode()


def flags(text: str) -> int:
    out = Scan()
    scan(text.encode(), True, out)
    return out.flags


def literals(text: str, standard_conforming: bool = True) -> list[str]:
    raw = text.encode()
    return [raw[start:end].decode() for start, end, _ in literal_spans(raw, standard_conforming)]


def split(text: str) -> list[str]:
    raw = text.encode()
    flat = split_statements(raw, True)
    return [raw[start:end].decode() for start, end in zip(flat[::2], flat[1::2], strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 'a', 'it''s'", ["'a'", "'it''s'"]),
        ("SELECT E'a\\'b', e'x'", ["E'a\\'b'", "e'x'"]),
        ("SELECT B'01', X'1F', N'n', U&'d!0061' UESCAPE '!'", ["B'01'", "X'1F'", "N'n'", "U&'d!0061'"]),
        ("SELECT 'a'\n  'b', 'c'", ["'a'\n  'b'", "'c'"]),
        ("SELECT 'a' -- x\n 'b'", ["'a' -- x\n 'b'"]),
        ("SELECT 'a' /* x */ \n 'b'", ["'a'", "'b'"]),
        ("SELECT 'a' 'b'", ["'a'", "'b'"]),
        ("SELECT $$a'b$$, $t$ $$ $u$ $t$", ["$$a'b$$", "$t$ $$ $u$ $t$"]),
        ("SELECT a$b$, c FROM x$y$z", []),
        ("SELECT $1, $2::int", []),
        ("SELECT 1, 1.5, .5, 1., 1e5, 1E-5, 0x1F, 0o17, 0b11, 1_000", None),
        ("SELECT x[1..10]", ["1", "10"]),
        ("SELECT /* 'a' /* 'b' */ 5 */ 6 -- 7", ["6"]),
        ('SELECT "a\'b", "c""d" FROM "5"', []),
        ("SELECT a ORDER BY 1, b, 2 LIMIT 3", ["3"]),
        ("SELECT a GROUP BY 1, f(2), 3 HAVING 4", ["2", "4"]),
        ("SELECT a ORDER BY 12345", ["12345"]),
        ("SELECT B'0''1', X'' ", ["B'0'", "'1'", "X''"]),
        ("SELECT -5, 3-2, 'a'||'b'", ["5", "3", "2", "'a'", "'b'"]),
        ("SELECT 1a, 2 b", ["1", "2"]),
    ],
)
def test_literals(text: str, expected: list[str] | None) -> None:
    assert literals(text) == (text.removeprefix("SELECT ").split(", ") if expected is None else expected)


def test_backslashes_escape_quotes_without_standard_conforming_strings() -> None:
    text = r"SELECT 'a\', 'b'"
    assert literals(text) == [r"'a\'", "'b'"]
    assert literals(text, False) == [r"'a\', '", "b'"]
    assert literals(r"SELECT N'a\'b', U&'c\', B'0\'", False) == [r"N'a\'b'", r"U&'c\'", r"B'0\'"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select  *\n from\tt -- x\n where a = 5", "select * from t where a = 1"),
        ("/* a */ SELECT 'x' /* b */", "SELECT 's'"),
        ("SELECT a/**/b", "SELECT a b"),
        ("SELECT N'x', E'x', $$x$$, 'x'", "SELECT 's', 's', 's', 's'"),
        ("SELECT B'01', X'FF', U&'!0041' UESCAPE '!'", "SELECT B'1', X'1', U&'s' UESCAPE '!'"),
        ("SELECT 7, 2147483647, 2147483648, 1.5, 0xFF, 0xFFFFFFFFFF", "SELECT 1, 1, 1.0, 1.0, 1, 1.0"),
        ("SELECT $1, $2 ORDER BY 2, 1", "SELECT $1, $2 ORDER BY 2, 1"),
        ("a IN (1, 2, 3) AND b in ('x','y')", "a IN (1) AND b in ('s')"),
        ("a IN (1, $1, 2, 3)", "a IN (1, $1, 1, 1)"),
        ("f(1, 2) AND a IN (f(1, 2), 3)", "f(1, 1) AND a IN (f(1, 1), 1)"),
        (
            "INSERT INTO t VALUES (1,'a'), (2,'b'),(3, 'c') RETURNING 4",
            "INSERT INTO t VALUES (1,'s'),(1, 's') RETURNING 1",
        ),
        ("VALUES (1),(2),(3)", "VALUES (1)"),
        ("VALUES (1),($1),($1)", "VALUES (1),($1)"),
        ("SELECT U&$$x$$, 1.5$$x$$, a.5", "SELECT U& 's', 1.0 's', a 1.0"),
        ("SELECT 'x", "SELECT 's' '"),
        ("SELECT 1 /* x", "SELECT 1 '"),
        ('SELECT "x', "SELECT 's' '"),
        ("SELECT 1; SELECT 2 ; ;", "SELECT 1; SELECT 1"),
        ("", ""),
        (" -- x", ""),
    ],
)
def test_skeleton(text: str, expected: str) -> None:
    assert skeleton(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", DML),
        ("wITH x AS (SELECT 1) SELECT 2", DML),
        ("/* x */ MERGE INTO t", DML | HAS_COMMENT),
        ("CREATE TABLE t ()", 0),
        ("BEGIN", 0),
        ("SELECT '4111 1111-1111 1111'", DML | LONG_DIGITS),
        ("SELECT 4_111_111_111_111_111", DML | LONG_DIGITS),
        ("SELECT '41111111'\n'11111111'", DML | LONG_DIGITS),
        ("SELECT 1 -- 4111111111111", DML | LONG_DIGITS | HAS_COMMENT),
        ("SELECT 123456789012, 345678901234", DML),
        ("SELECT 'x", DML | UNTERMINATED),
        *(
            (f"SELECT {word}", DML | SECRET_WORD)
            for word in ("PassWord", "x_secrets", "CRYPT(", "dblink_x", "hmac")
        ),
        *(
            (f"SELECT '{word}'", DML | SECRET_WORD)
            for word in ("pgp_sym", "userpwd", "api_key", "ApiKey", "token")
        ),
        *(
            (f"SELECT /*{word}*/ 1", DML | SECRET_WORD | HAS_COMMENT)
            for word in ("passphrase", "conninfo", "PRIVATE_key")
        ),
        ("create user mapping", SECRET_WORD),
        ("ALTER x 'postgresql://a:b@c'", SECRET_WORD),
        ("SELECT p, c, k, pw, crypy, tok, primary_key, pgp, hma FROM pgc", DML),
    ],
)
def test_flags(text: str, expected: int) -> None:
    assert flags(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        (" ;; SELECT 1 ;/* x */; -- y\n ", ["SELECT 1"]),
        (
            "-- a\nSELECT 1 /* b */; /* c */ SELECT 2 -- d",
            ["-- a\nSELECT 1 /* b */", "/* c */ SELECT 2 -- d"],
        ),
        (
            "SELECT ';', $$;$$, \";\" /* ; */ -- ;\n, 1; x",
            ["SELECT ';', $$;$$, \";\" /* ; */ -- ;\n, 1", "x"],
        ),
        ("CREATE RULE r AS ON INSERT TO t DO (a; b); c", ["CREATE RULE r AS ON INSERT TO t DO (a; b)", "c"]),
        ("BEGIN; SELECT 1; END; SELECT 2", ["BEGIN", "SELECT 1", "END", "SELECT 2"]),
        (
            "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END; SELECT 3",
            ["CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END", "SELECT 3"],
        ),
        (
            "CREATE PROCEDURE p() BEGIN ATOMIC SELECT 1 AS end, t.case; END; b",
            ["CREATE PROCEDURE p() BEGIN ATOMIC SELECT 1 AS end, t.case; END", "b"],
        ),
        ("SELECT 'a; b", ["SELECT 'a; b"]),
        ("SELECT ); SELECT 2", ["SELECT )", "SELECT 2"]),
        ("", []),
    ],
)
def test_split(text: str, expected: list[str]) -> None:
    assert split(text) == expected


_parts = st.sampled_from(
    [
        "SELECT 1",
        "select 'a;b' as x",
        "INSERT INTO t VALUES ($$;$$, E'\\';', \"a;b\")",
        "BEGIN",
        "COMMIT",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END",
        "CREATE OR REPLACE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (1); END",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO u VALUES (1); DELETE FROM v)",
        "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS $f$ SELECT 1; SELECT 2; $f$",
        "SELECT t.end, 1 AS case FROM t",
        "/* a; b */ SELECT 1 -- c; d\n",
        "SELECT 'x'\n'y;z'",
        "",
        " -- only a comment;\n",
        "SELECT /* /* ; */ ; */ U&'d!0061;' UESCAPE '!'",
    ]
)


@given(st.lists(_parts, min_size=1, max_size=6), st.sampled_from([";", " ;\n", ";;"]))
def test_split_is_that_of_postgres(parts: list[str], separator: str) -> None:
    text = separator.join(parts)
    assert [bare(part) for part in split(text)] == [bare(part) for part in postgast.split(text)]


def bare(text: str) -> list[str]:
    """A statement as its tokens, since libpg_query counts other blanks and comments to it than we do."""
    raw = text.encode()
    flat = tokens(raw, True)
    found = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return [raw[start:end].decode() for kind, start, end in found if kind != lexer.COMMENT]


@given(hostile)
def test_tokens_are_those_of_postgres(text: bytes) -> None:
    sql = text.decode()
    try:
        oracle = postgast.scan(sql)
    except postgast.PgQueryError:
        return
    if "\0" in sql:
        return
    ours = [
        (start, end)
        for kind, start, end in spans(text)
        if kind not in (lexer.OPERATOR, lexer.MARK, lexer.COMMENT)
    ]
    theirs = [(token.start, token.end) for token in oracle.tokens]
    # Operators are cut differently, and N is a token of its own there.
    missing = [span for span in ours if span not in theirs and text[span[0]] not in b"nN"]
    assert missing == []


def spans(text: bytes) -> list[tuple[int, int, int]]:
    flat = tokens(text, True)
    return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))


@given(st.one_of(hostile, st.binary(max_size=60)), st.booleans())
def test_any_bytes_are_scanned_and_skeletons_are_their_own_skeletons(text: bytes, conforming: bool) -> None:
    out = Scan()
    scan(text, conforming, out)
    first = out.skeleton
    assert not out.flags & UNTERMINATED or first.endswith(b" '")
    scan(first.removesuffix(b" '"), True, out)
    assert out.skeleton == first.removesuffix(b" '")
    split_statements(text, conforming)
    nesting(text)
    end = 0
    for _, start, stop in spans(text):
        assert end <= start < stop
        end = stop


@pytest.mark.parametrize(
    "fragment", [*FRAGMENTS, "'a'\n--\n", "$a$ $b", "/* /", "U&", "x IN (1,", "VALUES (1),", "a."]
)
def test_the_work_is_linear(fragment: str) -> None:
    text = fragment.encode() * 3000
    for conforming in (True, False):
        reader = Lexer(text, conforming, True)
        count = 0
        while reader.next() != lexer.END:
            count += 1
        assert count <= len(text)
        assert reader.again <= 2 * len(text)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("SELECT a, b, c FROM t WHERE a = 1 AND b = 2 OR c = 3", 1, 3),
        ("SELECT " + "(" * 500 + "1" + ")" * 500, 500, 502),
        ("SELECT 1" + "+1" * 500, 500, 502),
        ("SELECT 1" + "::a" * 500, 500, 502),
        ("SELECT a" + "[1]" * 500, 500, 502),
        ("SELECT 1" + " IS NULL" * 500, 500, 502),
        ("SELECT 1, 2" + " UNION SELECT 1, 2" * 500, 500, 502),
        ("SELECT 1 FROM a" + " JOIN b ON x = y AND true" * 500, 500, 502),
        ("SELECT " + "CASE WHEN a AND b THEN " * 500, 500, 502),
        ("SELECT " + "NOT " * 500, 500, 502),
        ("SELECT " + ", ".join(["a + f(1, 2)"] * 500), 1, 4),
        ("SELECT 1 WHERE " + " OR ".join(["(a = 1 AND b = 2)"] * 500), 1, 4),
        ("SELECT f(1, 2)" + " + f(1, 2)" * 500, 500, 1100),
    ],
)
def test_nesting(text: str, least: int, most: int) -> None:
    assert least <= nesting(text.encode()) <= most


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1 /*action='index',app='x%20y'*/", {"action": "index", "app": "x y"}),
        ("/* a='b' , c='d%27e\\'f' */ SELECT 1", {"a": "b", "c": "d'e'f"}),
        ("/*a='1'*/ SELECT 1 /*b='2'*/ ;", {"b": "2"}),
        ("/*a='1'*/ SELECT 1 /*b='2'*/", {"b": "2"}),
        ("/*a='1'*/ SELECT 1 /* plain */", {"a": "1"}),
        ("SELECT 1 /*a='1'*/ FROM t", {}),
        ("SELECT 1 -- a='1'", {}),
        ("SELECT 1 /*a=1*/", {}),
        ("SELECT 1 /*a='1',*/", {}),
        ("SELECT 1 /*a='1' b='2'*/", {}),
        ("SELECT 1 /*a='%C3%A9',b='%zz%4',c='%ff'*/", {"a": "é", "b": "%zz%4", "c": "\ufffd"}),
        ("SELECT 1 /*a='1'", {}),
        ("SELECT 1 /*" + ",".join(f"k{i}='v'" for i in range(MAX_TAGS + 1)) + "*/", {}),
        ("", {}),
    ],
)
def test_comment_tags(text: str, expected: dict[str, str]) -> None:
    assert comment_tags(text.encode()) == expected
