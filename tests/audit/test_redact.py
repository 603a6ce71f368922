"""No secret gets out: planted in many shapes of statement, messages and values."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.audit.lexer import BITS, DOLLAR, ESTRING, INTEGER, NSTRING, STRING, USTRING
from mirror_audit.audit.redact import NONE, SECRETS, VALUES, Redactor
from mirror_audit.audit.sensitive import cards, literal, literal_value, mask_cards, mask_conninfo

CARD = "4111111111111111"
KEY = b"0123456789abcdef"

secrets_only = Redactor(SECRETS, None)


def redacted(text: str, parsed: bool = True, conforming: bool = True) -> str:
    return secrets_only.statement(text.encode(), conforming, parsed).text.decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALTER ROLE bob PASSWORD 'x1'", "ALTER ROLE bob PASSWORD '***'"),
        ("create user b with encrypted password E'x1' valid until 'y'", "{} valid until 'y'"),
        ("ALTER USER b PASSWORD $q$x1$q$", "ALTER USER b PASSWORD $q$***$q$"),
        ("ALTER USER b PASSWORD 'x'\n'1'", "ALTER USER b PASSWORD '***'"),
        ("ALTER USER b PASSWORD U&'x!0031' UESCAPE '!'", "ALTER USER b PASSWORD U&'***' UESCAPE '!'"),
        ("ALTER GROUP b PASSWORD /* c */ 'x1'", "ALTER GROUP b PASSWORD /* c */ '***'"),
        ("ALTER ROLE b PASSWORD NULL", "ALTER ROLE b PASSWORD NULL"),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=h password=x1 port=5'", "{} 'host=h password=*** port=5'"),
        ("ALTER SUBSCRIPTION s CONNECTION 'host=h password=''x 1'' a=b'", "{} 'host=h password=*** a=b'"),
        ("ALTER SUBSCRIPTION s CONNECTION E'password=\\'x\\\\\\'1\\' a=b'", "{} 'password=*** a=b'"),
        ("ALTER SUBSCRIPTION s CONNECTION 'postgres://u:x1@h/d'", "{} 'postgres://u:***@h/d'"),
        (
            "ALTER SUBSCRIPTION s CONNECTION 'postgresql://h/d?password=x1&a=b'",
            "{} 'postgresql://h/d?password=***&a=b'",
        ),
        (
            "CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'u', password 'x1')",
            "{} (user 'u', password '***')",
        ),
        (
            "ALTER USER MAPPING FOR u SERVER s OPTIONS (SET username 'u', ADD a 'x1')",
            "{} (SET username 'u', ADD a '***')",
        ),
        (
            "CREATE SERVER s FOREIGN DATA WRAPPER f OPTIONS (host 'h', \"Password\" 'x1')",
            "{} (host 'h', \"Password\" '***')",
        ),
        ("ALTER SERVER s OPTIONS (SET api_key 'x1', SET a 'b')", "{} (SET api_key '***', SET a 'b')"),
        (
            "SELECT dblink('host=h password=x1', 'SELECT 5')",
            "SELECT dblink('host=h password=***', 'SELECT 5')",
        ),
        ("SELECT dblink_connect('c', 'password=x1')", "SELECT dblink_connect('c', 'password=***')"),
        ("SELECT dblink_connect('a b password=x1')", "SELECT dblink_connect('***')"),
        ("SELECT dblink_exec('c', 'ALTER USER u PASSWORD ''x1''')", "{} 'ALTER USER u PASSWORD ''***''')"),
        (
            "SELECT dblink('host=h password=' || 'x1', 'y')",
            "SELECT dblink('host=h password=***' || '***', '***')",
        ),
        ("SELECT 1 FROM u WHERE p = crypt('x1', p) AND a = 'b'", "{} p = crypt('***', p) AND a = 'b'"),
        ("SELECT public.pgp_sym_encrypt(a, 'x1'), 'b'", "SELECT public.pgp_sym_encrypt(a, '***'), 'b'"),
        ("SELECT pgp_pub_decrypt(a, dearmor(b), 'x1')", "SELECT pgp_pub_decrypt(a, dearmor(b), '***')"),
        ("SELECT hmac(a, 'x1', 'sha256')", "SELECT hmac(a, '***', '***')"),
        ("SELECT decrypt_iv(a, 'x1', 'x1', 'aes')", "SELECT decrypt_iv(a, '***', '***', '***')"),
        (
            "SELECT set_config('app.jwt_secret', 'x1', true)",
            "SELECT set_config('app.jwt_secret', '***', true)",
        ),
        (
            "SELECT set_config('app.token', 'x' || '1', true)",
            "SELECT set_config('app.token', '***' || '***', true)",
        ),
        ("SELECT set_config('app.name', 'n', true)", "SELECT set_config('app.name', 'n', true)"),
        ("SET app.secret = 'x1', 'x1'", "SET app.secret = '***', '***'"),
        ("SET LOCAL app.token TO x1", "SET LOCAL app.token TO ***"),
        ("SET app.token TO DEFAULT", "SET app.token TO DEFAULT"),
        ("SET password_encryption = 'md5'", "SET password_encryption = 'md5'"),
        (
            "ALTER ROLE b IN DATABASE d SET app.password = 'x1'",
            "ALTER ROLE b IN DATABASE d SET app.password = '***'",
        ),
        ("ALTER SYSTEM SET primary_conninfo = 'user=u password=x1'", "{} 'user=u password=***'"),
        ("ALTER SYSTEM SET ssl_passphrase_command = 'x1'", "ALTER SYSTEM SET ssl_passphrase_command = '***'"),
        ("PREPARE p AS SELECT crypt('x1', 's')", "PREPARE p AS SELECT crypt('***', '***')"),
        ("EXPLAIN (ANALYZE) SELECT crypt('x1', 's')", "EXPLAIN (ANALYZE) SELECT crypt('***', '***')"),
        ("EXECUTE p('host=h password=x1', 'y')", "EXECUTE p('host=h password=***', 'y')"),
        ("DO $$BEGIN ALTER ROLE b PASSWORD 'x1'; END$$", "DO $$BEGIN ALTER ROLE b PASSWORD '***'; END$$"),
        ("DO 'BEGIN ALTER ROLE b PASSWORD ''x1''; END'", "DO 'BEGIN ALTER ROLE b PASSWORD ''***''; END'"),
        (
            "DO $a$BEGIN EXECUTE 'ALTER ROLE b PASSWORD ''x1'''; END$a$",
            "DO $a${} 'ALTER ROLE b PASSWORD ''***'''; END$a$",
        ),
        (
            "DO $$BEGIN EXECUTE 'ALTER ROLE b PASSWORD ' || quote_literal('x1'); END$$",
            "{} quote_literal('***'); END$$",
        ),
        (
            "DO $$BEGIN EXECUTE format('ALTER USER b PASSWORD %L', 'x1'); END$$",
            "{} PASSWORD %L', '***'); END$$",
        ),
        ("DO $$BEGIN a('password=%s', 'x1'); END$$", "DO $$BEGIN a('password=***', '***'); END$$"),
        (
            "CREATE FUNCTION f() RETURNS text AS $$SELECT crypt('x1', 's')$$ LANGUAGE 'sql'",
            "{} LANGUAGE 'sql'",
        ),
        ("SELECT 1 -- PASSWORD 'x1'\n, 'y'", "SELECT 1 -- PASSWORD '***'\n, 'y'"),
        ("SELECT 1 /* password=x1, password : x1 */", "SELECT 1 /* password=***, password : *** */"),
        ("SELECT 1 /*controller='password'*/", "SELECT 1 /*controller='password'*/"),
        ("SELECT 'password', 'y'", "SELECT 'password', 'y'"),
        (
            "SELECT password FROM u WHERE password_reset = 'y'",
            "SELECT password FROM u WHERE password_reset = 'y'",
        ),
        ("CREATE TABLE crypt (a text DEFAULT 'y')", "CREATE TABLE crypt (a text DEFAULT '***')"),
    ],
)
def test_secrets_of_statements(text: str, expected: str) -> None:
    found = redacted(text)
    assert "x1" not in found
    begin, _, end = expected.partition("{}")
    assert found.startswith(begin)
    assert found.endswith(end)
    assert found == text or "***" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"VALUES ('{CARD}', {CARD}, -{CARD}.0)", "VALUES ('***', ***, -***)"),
        ("SELECT 'a 4111 1111 1111 1111 b', '4111-1111-1111-1111'", "SELECT 'a *** b', '***'"),
        (f"SELECT E'{CARD}\\n', $${CARD}$$, N'{CARD}'", "SELECT '***\n', $$***$$, '***'"),
        ("SELECT '41111111' --\n  '11111111'", "SELECT '***'"),
        ("SELECT 4111_1111_1111_1111, 4111-1111-1111-1111", "SELECT ***, ***-***-***-***"),
        (f"SELECT 1 /* {CARD} */ -- {CARD}", "SELECT 1 /* *** */ -- ***"),
        (f"SELECT 1 /* /{CARD}/ */", "SELECT 1 /* / *** / */"),
        (f"SELECT 1/{CARD}", "SELECT 1/ ***"),
        ("SELECT 1 /*a='4111%201111%201111%201111'*/", "SELECT 1 /* *** */"),
        (f'SELECT "{CARD}", "t_{CARD}", t_{CARD}', f'SELECT "***", "t_{CARD}", t_{CARD}'),
        (r"SELECT E'\x34111111111111111', E'\064\061111111 11111111'", "SELECT '***', '***'"),
        ("SELECT E'" + "".join(f"\\x{ord(c):02x}" for c in CARD) + "'", "SELECT '***'"),
        (r"SELECT E'4111\x2D1111\u002D1111\x2d1111'", "SELECT '***'"),
        (r"SELECT U&'\0034111111111111111', 'x'", "SELECT U&'***', 'x'"),
        (r"SELECT U&'\+0000341111111\00311111111'", "SELECT U&'***'"),
        (
            "SELECT U&'" + "".join(f"!{ord(c):04x}" for c in CARD) + "' UESCAPE /* */ '!', U&'a'",
            "SELECT U&'***' UESCAPE /* */ '!', U&'a'",
        ),
        (r"SELECT U&'\0034111111111111112', E'\x34111111111111112'", None),
        ("SELECT '4111111111111112', '411111111111', '0000000000000000'", None),
        ("SELECT '12345678901234567890123'", None),
        ("SELECT 1700000000001, '2026-11-23 05:54:29.123456'", None),
    ],
)
def test_card_numbers(text: str, expected: str | None) -> None:
    assert redacted(text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELEC 'x1', 51, $$x1$$ -- x1", "SELEC '***', ***, $$***$$ -- ***"),
        ("SELECT 'x1", "SELECT '***'"),
        ("SELECT $a$x1", "SELECT $a$***$a$"),
        ("SELECT 1 /* x1", "SELECT *** /* *** "),
        ('SELECT "x1', 'SELECT "***"'),
        ("ALTER ROLE b PASSWORD x1", "ALTER ROLE b PASSWORD ***"),
        ('ALTER ROLE b PASSWORD "x1"', 'ALTER ROLE b PASSWORD "***"'),
        ("ALTER ROLE b PASSWORD = x1", "ALTER ROLE b PASSWORD = ***"),
        ("CREATE USER b IDENTIFIED BY x1", "CREATE USER b IDENTIFIED BY ***"),
    ],
)
def test_what_is_no_sql_is_masked_as_a_whole(text: str, expected: str) -> None:
    assert redacted(text, parsed=False) == expected


def test_backslashes_count_as_the_session_has_it() -> None:
    assert (
        redacted(r"ALTER ROLE b PASSWORD 'a\'x1', c '", conforming=False)
        == "ALTER ROLE b PASSWORD '***', c '"
    )
    assert redacted(rf"SELECT 'a\\ {CARD}'", conforming=False) == r"SELECT E'a\\ ***'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT crypt($1, gen_salt('bf')), $2", {1}),
        ("SELECT pgp_sym_decrypt(a, $12), $2", {12}),
        ("SELECT dblink_connect($1, $2)", {1, 2}),
        ("SELECT set_config('app.secret', $3, false), set_config('app.name', $4, false)", {3}),
        ("SELECT dblink('x', 'ALTER ROLE b PASSWORD ' || quote_literal($1))", {1}),
        ("SELECT * FROM u WHERE password = $1", set()),
        ("SELECT hmac($99999999999999999999, 'x', 'y')", {999999999}),
    ],
)
def test_parameters_in_the_place_of_a_secret(text: str, expected: set[int]) -> None:
    found = secrets_only.statement(text.encode(), True, True)
    assert (set(found.parameters), found.secret) == (expected, bool(expected))


def test_values_mode_masks_every_literal() -> None:
    text = b"SELECT 'a', 5, B'1' FROM t /*k='v'*/ WHERE b IN (1.5, $$x$$) AND c = $1 ORDER BY 2 -- note"
    found = Redactor(VALUES, None).statement(text, True, True)
    assert found.text == (
        b"SELECT '***', ***, '***' FROM t /*k='v'*/ WHERE b IN (***, $$***$$) AND c = $1 ORDER BY 2 -- ***"
    )
    assert found.sql == text


def test_a_key_makes_equal_values_comparable() -> None:
    keyed = Redactor(VALUES, KEY)
    digest = hmac.new(KEY, b"it's", hashlib.sha256).hexdigest()[:16].encode()
    for text in (b"SELECT 'it''s'", b"SELECT E'it\\'s'", b"SELECT $$it's$$"):
        assert b"*hmac:" + digest + b"*" in keyed.statement(text, True, True).text
    assert keyed.value(b"it's", False) == b"*hmac:" + digest + b"*"
    assert keyed.statement(b"ALTER ROLE b PASSWORD 'x1'", True, True).text == b"ALTER ROLE b PASSWORD '***'"


def test_none_masks_nothing() -> None:
    plain = Redactor(NONE, None)
    text = b"ALTER ROLE b PASSWORD '4111111111111111'"
    assert plain.statement(text, True, False).text is text
    assert plain.message(text, True) is text
    assert plain.value(text, True) is None


@pytest.mark.parametrize(
    ("value", "secret", "expected"),
    [
        (b"plain", False, None),
        (b"plain", True, b"***"),
        (b"4111 1111 1111 1111", False, b"***"),
        (b"host=h password=x1", False, b"host=h password=***"),
        (b"alter role b password 'x1'", False, b"alter role b password '***'"),
        (b"CREATE USER b PASSWORD $q$x1$q$ -- y", False, b"CREATE USER b PASSWORD $q$***$q$ -- y"),
        (b"alter role b password x1", False, b"***"),
        (b"alter role b password e'\\'x1'", False, b"***"),
        (
            b"create user mapping for u server s options (user 'u', password 'x1')",
            False,
            b"create user mapping for u server s options (user 'u', password '***')",
        ),
        (b"create user mapping for u server s options (pass x1)", False, b"***"),
        (b"select dblink_connect('c', 'password=x1')", False, b"select dblink_connect('c', 'password=***')"),
        (b"my password is lost", False, None),
        (b"mysql://u:x1@h/d", False, b"mysql://u:***@h/d"),
        (b"https://u:x1/x1@h/?a=b", False, b"https://u:***@h/?a=b"),
        (b"see redis://:x1@h, amqp://u:x1@h!", False, b"see redis://:***@h, amqp://u:***@h!"),
        (b'{"u": "mongodb+srv://u:x1@h/d","e":"a@b"}', False, b'{"u": "mongodb+srv://u:***@h/d","e":"a@b"}'),
        (b'{"u":"https://h:8080/d","e":"a@b"}', False, None),
        (b"https://h:8080/d?to=a@b", False, None),
        (b"https://h/d?to=a:b@c", False, None),
        (b"mysql://h/d?sslpassword=x1&a=b", False, b"mysql://h/d?sslpassword=***&a=b"),
        (b"postgres://u:x'1\"@h/d", False, b"postgres://u:***@h/d"),
        (b"4111111111111112", False, None),
        (b"\xff\x00", False, None),
    ],
)
def test_parameter_values(value: bytes, secret: bool, expected: bytes | None) -> None:
    assert secrets_only.value(value, secret) == expected
    assert Redactor(VALUES, None).value(value, secret) == b"***"


@pytest.mark.parametrize(
    ("message", "strict", "expected"),
    [
        ('syntax error at or near "x1"', True, 'syntax error at or near "***"'),
        ('syntax error at or near "from"', False, 'syntax error at or near "from"'),
        ('bad "x1" and "b', True, 'bad "***"b'),
        ('bad "x" x1 "y" in "t"', True, 'bad "***"'),
        ('unterminated "x1\nx1', True, 'unterminated "***'),
        ("invalid value 'x1'", True, "invalid value '***'"),
        ("can't do", True, "can't do"),
        ("ungültig: »x1«", True, "ungültig: »***«"),
        ("Key (a, b)=(x1, 5) already exists.", True, "Key (a, b)=(***) already exists."),
        ("Failing row contains (x1, (y), null).", True, "Failing row contains (***)"),
        ('JSON data, line 1: {"a": x1', True, "JSON data, line 1: ***"),
        ("password x1 is weak", True, "password ***"),
        ("invalid option Password=x1", True, "invalid option Password ***"),
        ("mot de passe x1", True, "mot de passe ***"),
        ('password "x1" is weak', True, "password ***"),
        ("password authentication failed", False, "password authentication failed"),
        (f"value {CARD} is bad", False, "value *** is bad"),
        ("connection to host=h", False, "connection to host=h"),
    ],
)
def test_messages(message: str, strict: bool, expected: str) -> None:
    assert secrets_only.message(message.encode(), strict).decode() == expected
    assert "x1" not in Redactor(VALUES, None).message(message.encode(), False).decode()


def test_an_unchanged_message_is_the_same_object() -> None:
    message = b"division by zero"
    assert secrets_only.message(message, True) is message


def luhn(digits: str) -> bool:
    total = sum(int(d) for d in digits[::-2])
    return (total + sum(sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])) % 10 == 0


@given(
    st.text("0123456789", min_size=12, max_size=20),
    st.sampled_from(["", " ", "-", "_", "  "]),
    st.integers(1, 6),
)
def test_cards_are_told_by_their_check_digit(digits: str, separator: str, size: int) -> None:
    groups = [digits[i : i + size] for i in range(0, len(digits), size)]
    text = separator.join(groups).encode()
    whole = 13 <= len(digits) <= 19 and luhn(digits) and digits[0] in "23456" and separator != "  "
    found = list(cards(b"x" + text + b"y"))
    assert not whole or found == [(1, len(text) + 1)]
    for start, end in found:
        inside = "".join(chr(c) for c in (b"x" + text)[start:end] if chr(c).isdigit())
        assert 13 <= len(inside) <= 19
        assert inside[0] in "23456"
        assert luhn(inside)


@given(st.binary(max_size=30).filter(lambda value: b"\0" not in value), st.booleans())
def test_a_literal_says_what_was_put_in(value: bytes, conforming: bool) -> None:
    for token, kind in ((b"'x'", STRING), (b"E'x'", ESTRING), (b"N'x'", NSTRING), (b"$q$x$q$", DOLLAR)):
        made = literal(value, token, kind, conforming)
        as_kind = {b"$": DOLLAR, b"E": ESTRING, b"'": STRING}[made[:1]]
        assert literal_value(made, as_kind, conforming) == value
    assert literal_value(b"5", INTEGER, conforming) == b"5"
    assert literal_value(b"B'01'", BITS, conforming) == b"01"
    assert literal_value(b"U&'a''b'", USTRING, conforming) == b"a'b"


@pytest.mark.parametrize(
    "piece",
    [
        b"password=",
        b"passw",
        b"a=b=c",
        b"1 ",
        b"4111-",
        b"postgres://a:",
        b"x'\n--\n",
        b"'",
        b"-- ",
        b"alter role ",
        b"\\",
    ],
)
def test_long_hostile_values_are_redacted(piece: bytes) -> None:
    # Exponential or cubic work would never get to the end of these.
    value = piece * 16_000
    mask_cards(mask_conninfo(value))
    secrets_only.message(value, True)
    shown = secrets_only.statement(b"SELECT '" + value + b"', 'password'", True, False).text
    assert value not in shown


@pytest.mark.parametrize("size", [50_000, 100_000, 400_000])
@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"postgres://@", b"://:"),
        (b"@", b"://u:1/"),
        (b"", b"://:@"),
        (b"postgres://?", b"passw"),
        (b"http://?", b"?passw"),
        (b"passw", b"''--"),
        (b"passw", b"''\n--"),
        (b"passw", b"'--\n"),
        (b"user mapping ", b"user mapping"),
        (b"password='", b"\\'"),
        (b"", b"secret ="),
        (b"", b"=("),
        (b"", b" ("),
        (b"", b"JSON data, line 1"),
        (b"", b"\xc2\xab"),
    ],
)
def test_work_is_linear_in_hostile_texts(size: int, before: bytes, piece: bytes) -> None:
    # Quadratic work takes half a minute and more for the longest of each shape, linear work a moment.
    text = before + piece * (size // len(piece))
    mask_conninfo(text)
    secrets_only.value(text, False)
    secrets_only.message(text, True)
    literal_value(b"'" + text, STRING, True)
    literal_value(b"E'" + text + b"\n'", ESTRING, True)
    shown = secrets_only.statement(b"SELCT 'passw" + text + b"'", True, False).text
    assert text not in shown


@pytest.mark.parametrize(
    ("token", "kind", "expected"),
    [
        (b"'a'\n'b'", STRING, b"ab"),
        (b"'a''--\n''b'", STRING, b"a'--\n'b"),
        (b"'a' -- x\n -- y\n  'b''c'", STRING, b"ab'c"),
        (b"E'a\\'\\\\' \n '\\n'", ESTRING, b"a'\\\n"),
        (b"E'a\\", ESTRING, b"a\\"),
        (b"'a''", STRING, b"a'"),
        (b"B'01'\n'1'", BITS, b"011"),
    ],
)
def test_what_a_literal_of_several_pieces_says(token: bytes, kind: int, expected: bytes) -> None:
    assert literal_value(token, kind, True) == expected


@given(st.binary(max_size=60), st.booleans(), st.booleans())
def test_any_bytes_are_redacted(text: bytes, conforming: bool, parsed: bool) -> None:
    for mode, key in ((SECRETS, None), (VALUES, None), (VALUES, KEY), (NONE, None)):
        redactor = Redactor(mode, key)
        redactor.statement(b"password " + text, conforming, parsed)
        redactor.message(b"password " + text, parsed)
        redactor.value(text, conforming)
