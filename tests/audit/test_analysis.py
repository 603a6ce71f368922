"""The analyser as the sessions use it: caches, redaction before facts, nothing secret in any output."""

import json
from typing import Any

import postgast
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mirror_audit.audit import sqlfacts
from mirror_audit.audit.analysis import Analyser, Analysis, AnalysisLimits
from mirror_audit.audit.scanner import Scan, scan
from mirror_audit.errors import ConfigError

SECRET = "s3cr3tBait"
CARD = "4111111111111111"


def facts(analysis: Analysis) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"{" + analysis.facts_json + b"}")
    return found


def test_an_ordinary_statement() -> None:
    text = b"SELECT a FROM s.t, u WHERE b = 5 AND c = 'x' ORDER BY 1 /*action='get'*/;"
    found = Analyser("secrets").analyse(text, True)
    assert found.text is text
    assert (found.parsed, found.redacted, found.secret) == (True, False, False)
    assert found.statement_class == b"READ"
    assert (found.effect, found.effect_name, found.effect_argument) == (0, None, None)
    assert (found.inner, found.secret_parameters, found.other_effects) == (None, frozenset(), ())
    assert facts(found) == {
        "class": "READ",
        "fingerprint": postgast.fingerprint(text.decode()).hex,
        "normalized": "SELECT a FROM s.t, u WHERE b = $1 AND c = $2 ORDER BY 1",
        "tables": [{"schema": "s", "name": "t"}, {"schema": None, "name": "u"}],
    }
    assert json.loads(found.comment_tags_json) == {"action": "get"}


def test_what_is_no_sql_has_no_facts_and_no_literals() -> None:
    found = Analyser("secrets").analyse(b"SELEC 'x' /* y */", True)
    assert found.text == b"SELEC '***' /* *** */"
    assert (found.parsed, found.redacted, found.statement_class) == (False, True, None)
    assert facts(found) == {"class": None, "fingerprint": None, "normalized": "SELEC ?", "tables": None}
    assert found.comment_tags_json == b"null"


def test_mode_none_shows_everything() -> None:
    text = f"ALTER ROLE b PASSWORD '{SECRET}' -- {CARD}".encode()
    found = Analyser("none").analyse(text, True)
    assert (found.text, found.redacted) == (text, False)
    unparsed = Analyser("none").analyse(b"SELEC 'x'", True)
    assert (unparsed.text, unparsed.redacted, unparsed.parsed) == (b"SELEC 'x'", False, False)


def test_an_unknown_mode_is_an_error() -> None:
    with pytest.raises(ConfigError):
        Analyser("some")


def test_both_caches() -> None:
    analyser = Analyser("secrets")
    first = analyser.analyse(b"SELECT 1 FROM t", True)
    assert analyser.analyse(bytes(bytearray(b"SELECT 1 FROM t")), True) is first
    second = analyser.analyse(b"SELECT 2  FROM t -- x", True)
    assert second.facts_json is first.facts_json
    assert analyser.analyse(b"SELECT 1 FROM t", False) is not first
    assert (analyser.exact_hits, analyser.skeleton_hits, analyser.parses) == (1, 2, 1)


def test_libpg_query_is_asked_once_a_skeleton(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    ask = sqlfacts.facts

    def count(skeleton: bytes, limit: int) -> sqlfacts.Facts:
        asked.append(skeleton)
        return ask(skeleton, limit)

    monkeypatch.setattr(sqlfacts, "facts", count)
    analyser = Analyser("secrets")
    for i in range(50):
        analyser.analyse(f"INSERT INTO t VALUES ({i}, 'a{i}'), ({i}, 'b')".encode(), True)
        analyser.analyse(f"SELECT * FROM t WHERE a IN ({', '.join(['1'] * (i + 1))})".encode(), True)
        analyser.analyse(f"SELECT crypt('{i}', password) FROM t".encode(), True)
    assert len(asked) == 3


def test_caches_are_bounded_and_keep_what_is_used() -> None:
    analyser = Analyser("secrets", None, AnalysisLimits(10, 1 << 20, 10, 1 << 20))
    kept = analyser.analyse(b"SELECT a", True)
    for i in range(100):
        analyser.analyse(f"SELECT a{i}".encode(), True)
        assert analyser.analyse(b"SELECT a", True) is kept
    parses = analyser.parses
    analyser.analyse(b"SELECT a99", True)
    assert analyser.parses == parses
    analyser.analyse(b"SELECT a0", True)
    assert analyser.parses == parses + 1


def test_caches_are_bounded_in_bytes() -> None:
    analyser = Analyser("secrets", None, AnalysisLimits(1000, 20_000, 1000, 20_000, 4_000))
    for _ in range(2):
        for i in range(10):
            analyser.analyse(f"SELECT '{'x' * 3000}', a{i}".encode(), True)
        analyser.analyse(f"SELECT '{'x' * 5000}'".encode(), True)
    assert analyser.exact_hits == 0
    analyser.analyse(f"SELECT '{'x' * 3000}', a9".encode(), True)
    assert analyser.exact_hits == 1


def test_long_texts_are_not_parsed_but_shown_unless_a_secret_may_be_in_them() -> None:
    analyser = Analyser("secrets")
    text = ("SELECT " + "a, " * 20_000 + "'x'").encode()
    found = analyser.analyse(text, True)
    assert (found.text, found.parsed, analyser.too_long) == (text, False, 1)
    assert facts(found)["class"] is None
    found = analyser.analyse(text + b", password", True)
    assert found.text == text.replace(b"'x'", b"'***'") + b", password"


def test_a_long_text_of_literals_is_short_for_the_parser() -> None:
    rows = ", ".join(f"({i}, 'value {i}')" for i in range(20_000))
    found = Analyser("secrets").analyse(f"INSERT INTO t VALUES {rows}".encode(), True)
    assert facts(found)["normalized"] == "INSERT INTO t VALUES ($1, $2)"


@pytest.mark.parametrize(
    ("text", "effect", "name", "argument"),
    [
        ("SET ROLE 'bob'", sqlfacts.SET_ROLE, b"bob", None),
        ("SET ROLE bob", sqlfacts.SET_ROLE, b"bob", None),
        ("SET search_path = 'a', b", sqlfacts.SET_SEARCH_PATH, None, b"a, b"),
        ("SELECT set_config('role', 'bob', true), 5", sqlfacts.SET_LOCAL_ROLE, b"bob", None),
        ("SELECT set_config('work_mem', '5', true)", 0, None, None),
        ("BEGIN", sqlfacts.BEGIN, None, None),
        ("SAVEPOINT s", sqlfacts.SAVEPOINT, b"s", None),
        ("EXECUTE p(5)", sqlfacts.EXECUTE, b"p", None),
    ],
)
@pytest.mark.parametrize("mode", ["secrets", "values", "none"])
def test_effects_are_known_in_every_mode(
    mode: str, text: str, effect: int, name: bytes | None, argument: bytes | None
) -> None:
    analyser = Analyser(mode)
    analyser.analyse(text.replace("bob", "eve").replace("a", "z").encode(), True)
    found = analyser.analyse(text.encode(), True)
    assert (found.effect, found.effect_name, found.effect_argument) == (effect, name, argument)


def test_several_settings_in_one_select() -> None:
    found = Analyser("secrets").analyse(
        b"SELECT set_config('search_path', 'a', true), set_config('role', $2, true)", True
    )
    assert (found.effect, found.effect_name, found.effect_argument) == (
        sqlfacts.SET_UNKNOWN,
        b"role",
        b"local",
    )
    assert found.effect_parameter == 2
    assert found.other_effects == (sqlfacts.Effect(sqlfacts.SET_LOCAL_SEARCH_PATH, None, b"a"),)


def test_a_backslash_in_a_role_name() -> None:
    text = rb"SET ROLE 'a\'b'"
    assert Analyser("secrets").analyse(text, False).effect_name == b"a'b"
    assert Analyser("secrets").analyse(text, True).parsed is False


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("PREPARE p AS SELECT 5", "SELECT 5"),
        ("/* c */ PREPARE p (int, numeric(5,2)) AS SELECT $1 AS b;", "SELECT $1 AS b"),
        ('PREPARE "as" AS INSERT INTO t VALUES (1)', "INSERT INTO t VALUES (1)"),
        (f"PREPARE p AS SELECT {CARD}, crypt('{SECRET}', 'x')", "SELECT ***, crypt('***', '***')"),
    ],
)
def test_the_statement_behind_prepare(text: str, inner: str) -> None:
    found = Analyser("secrets").analyse(text.encode(), True)
    assert found.inner is not None
    assert found.effect == sqlfacts.PREPARE
    assert (found.inner.text.decode(), found.inner.parsed) == (inner, True)
    assert found.effect_argument == found.inner.text


def test_prepare_in_values_mode() -> None:
    found = Analyser("values").analyse(b"PREPARE p AS INSERT INTO t VALUES (5)", True)
    assert found.inner is not None
    assert (found.inner.text, found.inner.statement_class) == (b"INSERT INTO t VALUES (***)", b"WRITE")


def test_parameters_and_messages() -> None:
    analyser = Analyser("secrets")
    found = analyser.analyse(b"SELECT * FROM u WHERE p = crypt($2, p) AND id = $1", True)
    assert (found.redacted, found.secret, found.secret_parameters) == (False, True, frozenset({2}))
    assert analyser.redact_value(b"plain", False) is None
    assert analyser.redact_value(b"plain", True) == b"***"
    assert analyser.redact_value(CARD.encode(), False) == b"***"
    message = b'syntax error at or near "x"'
    assert analyser.redact_message(message, False) is message
    assert analyser.redact_message(message, True) == b'syntax error at or near "***"'
    values = Analyser("values", b"0123456789abcdef")
    assert (values.hides_values, values.keyed) == (True, True)
    assert analyser.redact_value(b"a" * 50, False) is None
    hidden = values.redact_value(b"x", False)
    assert hidden is not None
    assert hidden.startswith(b"*hmac:")
    assert Analyser("none").redact_value(CARD.encode(), True) is None


# -- nothing secret in any output ---------------------------------------------------------------------------

SHAPES = [
    "ALTER ROLE bob PASSWORD {}",
    "CREATE USER bob WITH SUPERUSER ENCRYPTED PASSWORD {} VALID UNTIL '2030-01-01'",
    "CREATE SUBSCRIPTION s CONNECTION {conninfo} PUBLICATION p",
    "CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'bob', password {plain})",
    "ALTER SERVER s OPTIONS (SET password {plain})",
    "SELECT dblink({conninfo}, 'SELECT 1')",
    "SELECT dblink_connect('c', {conninfo})",
    "SELECT crypt({}, gen_salt('bf'))",
    "UPDATE u SET p = crypt({}, p) WHERE id = 7",
    "INSERT INTO u VALUES (1, pgp_sym_encrypt('data', {})), (2, pgp_sym_encrypt('data', {}))",
    "SELECT pgp_sym_decrypt_bytea(a, {}) FROM t WHERE b IN (1, 2)",
    "SELECT hmac(a, {}, 'sha256')",
    "SELECT encrypt(a, {}, 'aes'), decrypt(b, {}, 'aes')",
    "SELECT set_config('app.password', {}, false)",
    "SET app.secret_token = {}",
    "ALTER SYSTEM SET primary_conninfo TO {conninfo}",
    "ALTER ROLE bob SET app.api_key TO {}",
    "PREPARE p AS SELECT crypt({}, 'x')",
    "EXECUTE p({conninfo})",
    "EXPLAIN ANALYZE SELECT crypt({}, 'x')",
    "DO $body$ BEGIN ALTER ROLE bob PASSWORD {}; END $body$",
    "DO $body$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', 'bob', {}); END $body$",
    "DO $body$ BEGIN EXECUTE 'ALTER ROLE bob PASSWORD ' || quote_literal({}); END $body$",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $body$ SELECT crypt({}, 'x') $body$",
    "COMMENT ON TABLE t IS 'x' -- ALTER ROLE bob PASSWORD {plain}",
    "SELECT 1 /* ALTER ROLE bob PASSWORD {plain} */",
    "SELEC {}",
    "SELECT FROM WHERE {} /* {} */",
    "ALTER ROLE bob PASSWORD = {}",
    "ALTER ROLE bob PASSWORD {bare}",
    'ALTER ROLE bob PASSWORD "{bare}"',
    "CREATE USER bob IDENTIFIED BY {bare}",
    "SELECT {}; SELECT '",
]
PLAIN = ["'{0}'", "E'{0}'", "$${0}$$", "$x${0}$x$", "U&'{0}'", "'{0}'\n  'tail'"]


def output(analyser: Analyser, text: str, conforming: bool) -> str:
    """Everything that an analysis says, as one string."""
    seen: list[object] = []
    found: Analysis | None = analyser.analyse(text.encode(), conforming)
    while found is not None:
        seen += [found.text, found.facts_json, found.effect_name, found.effect_argument, found.other_effects]
        seen += [found.comment_tags_json, found.statement_class]
        found = found.inner
    return repr(seen)


def fill(shape: str, literal: str, value: str) -> str:
    text = shape.replace("{bare}", value).replace("{plain}", f"'{value}'")
    text = text.replace("{conninfo}", f"'host=h password={value} dbname=d'")
    return text.replace("{}", literal.format(value))


@pytest.mark.parametrize("mode", ["secrets", "values"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_secret_survives(shape: str, mode: str) -> None:
    for literal in PLAIN:
        if "$body$" in shape and literal.startswith("$x"):
            continue
        text = fill(shape, literal, SECRET)
        for conforming in (True, False):
            analyser = Analyser(mode)
            analyser.analyse(fill(shape, literal, "other").encode(), conforming)
            for variant in (text, text.lower(), text.upper(), text.replace(" ", " /* x */\n")):
                assert SECRET.lower() not in output(analyser, variant, conforming).lower(), variant


CARD_SHAPES = [
    "INSERT INTO t VALUES (1, '{}'), (2, 'x')",
    "INSERT INTO t VALUES ({})",
    "SELECT * FROM t WHERE a = '{}' OR a LIKE '%{}%'",
    "SELECT * FROM t WHERE a IN ('x', '{}', 'y')",
    "UPDATE t SET a = $${}$$",
    "SELECT 1 -- {}",
    "SELECT 1 /* a {} b */ ORDER BY {}",
    "SELECT 1 /*a='{}'*/",
    'SELECT "{}"',
    "SET app.x = '{}'",
    "SET ROLE '{}'",
    "SET search_path TO '{}', x",
    "PREPARE p AS SELECT '{}'",
    "EXECUTE p('{}')",
    "DO $$ BEGIN INSERT INTO t VALUES ('{}'); END $$",
    "COMMENT ON TABLE t IS '{}'",
    "PREPARE TRANSACTION '{}'",
    "SELEC {}",
    "SELECT '{}",
    "SELECT set_config('role', '{}', true)",
    "SELECT E'a\\n{}'",
    "CREATE TABLE t (a text DEFAULT '{}')",
    "COPY t FROM '{}'",
]


@pytest.mark.parametrize("mode", ["secrets", "values"])
@pytest.mark.parametrize("shape", CARD_SHAPES)
def test_no_card_number_survives(shape: str, mode: str) -> None:
    for card in (
        CARD,
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "378282246310005",
        "6011 0009 9013 9424",
    ):
        if card != CARD and ("({})" in shape or "BY {}" in shape):
            continue
        found = output(Analyser(mode), shape.replace("{}", card), True)
        assert card not in found
        assert card.replace(" ", "").replace("-", "") not in found


_value = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x17F, exclude_characters="'\\$%"), max_size=8
)
_number = st.integers(0, 10**11).map(str)
_string = _value.map(lambda value: f"'{value}'") | _value.map(lambda value: f"$q${value}$q$")
_templates = st.sampled_from(
    [
        "SELECT a, {n} FROM t WHERE b = {s} AND c > {n} ORDER BY 1, 2 LIMIT {n}",
        "INSERT INTO t (a, b) VALUES ({n}, {s}), ({n}, {s})",
        "UPDATE t SET a = {s}, password = {s} WHERE id = {n}",
        "WITH x AS (DELETE FROM t WHERE a = {s} RETURNING *) SELECT {n} FROM x",
        "SELECT f({s}, {n}) IN ({n}, {n}), {s}::date, interval {s}",
        "SET search_path TO {s}",
        "ALTER TABLE t ALTER a SET DEFAULT {s}",
        "COMMENT ON TABLE t IS {s}",
        "PREPARE p AS SELECT {s}, {n}",
        "EXPLAIN SELECT {s} FROM t",
        "COPY t FROM {s}",
        "SELECT set_config({s}, {s}, true)",
        "DO {s}",
        "SELEC {s} {n}",
    ]
)


@given(_templates, st.data())
def test_equal_skeletons_mean_equal_facts(template: str, data: st.DataObject) -> None:
    texts = []
    for _ in range(2):
        text = template
        while "{n}" in text or "{s}" in text:
            text = text.replace("{n}", data.draw(_number), 1).replace("{s}", data.draw(_string), 1)
        texts.append(text.encode())
    skeletons = []
    for raw in texts:
        out = Scan()
        scan(raw, True, out)
        skeletons.append(out.skeleton)
    assume(skeletons[0] == skeletons[1])
    # Two analysers: what one would take from its cache, the other has to find out.
    first, second = (Analyser("secrets").analyse(raw, True) for raw in texts)
    assert first.facts_json == second.facts_json
    found = facts(first)
    if first.parsed and not found["normalized"].startswith(("COMMENT", "COPY")):
        # libpg_query makes the file's name and the comment a part of the fingerprint.
        assert found["fingerprint"] == postgast.fingerprint(texts[0].decode()).hex


@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))),
    st.booleans(),
)
def test_any_bytes_are_analysed(text: bytes, conforming: bool) -> None:
    for mode in ("secrets", "values", "none"):
        found = Analyser(mode).analyse(text, conforming)
        assert set(facts(found)) == {"class", "fingerprint", "normalized", "tables"}
        json.loads(found.comment_tags_json)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", False),
        ("SELECT set_config('role', 'admin', false)", False),
        ("SELECT set_config('app.x', 'y', false)", False),
        ("VALUES (set_config('role', 'admin', false))", False),
        ("WITH x AS (SELECT set_config('role', 'a', false)) SELECT * FROM x", False),
        ("SELECT set_config('role', $1, false)", False),
        ("SELECT set_config($1, $2, false)", True),
        ("SELECT set_config($1, $2, $3)", True),
        ("SELECT set_config('ro' || 'le', 'admin', false)", True),
        ("SELECT set_config('role', 'admin', false)" + ", 1" * 60_000, True),
        ("SELECT set_config('role', 'admin', false), '" + "x" * 60_000 + "'", True),
        ("SELECT set_config('role', 'admin', false)," + "(" * 3000 + "1" + ")" * 3000, True),
        ("EXPLAIN ANALYZE SELECT SET_CONFIG('role', 'admin', false)", True),
        ("INSERT INTO t SELECT set_config('role', 'admin', false)", True),
        ("CREATE TABLE t AS SELECT set_config('role', 'admin', false)", True),
        ("COPY (SELECT set_config('role', 'admin', false)) TO STDOUT", True),
        ("CALL f(set_config('role', 'admin', false))", True),
        ("EXECUTE p(set_config('role', 'admin', false))", True),
        ("PREPARE p AS SELECT set_config('role', 'admin', false)", False),
        ("UPDATE pg_settings SET setting = 'admin' WHERE name = 'role'", True),
        ("WITH x AS (UPDATE pg_settings SET setting = 'a') SELECT set_config('app.x', '1', true)", True),
        (r"""UPDATE U&"pg\005fsettings" SET setting = 'admin'""", True),
        ("SELECT name FROM pg_settings", False),
        ("DO $$BEGIN SET ROLE admin; END$$", True),
        ("do $$begin perform set_config('role', 'admin', false); end$$", True),
        (r"DO E'BEGIN SET R\x4fLE admin; END'", True),
        ("DO $$BEGIN UPDATE t SET a = 1; END$$", False),
        ("SET role = 'admin'", False),
        ("SET search_path = " + "'a', " * 20_000 + "'b'", True),
        ("INSERT INTO t VALUES (" + "1, " * 20_000 + "now())", False),
        ("SETT x", False),
    ],
)
def test_effects_that_are_not_fully_told(text: str, expected: bool) -> None:
    analyser = Analyser("secrets")
    assert analyser.analyse(text.encode(), True).hides_effect is expected
    assert analyser.analyse(text.encode() + b" -- again", True).hides_effect is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 'a', client FROM t", False),
        ("SET Standard_Conforming_Strings = off", True),
        ("SET /* x */ NAMES 'SJIS'", True),
        ("set client_encoding to 'SJIS'", True),
        ("SET LOCAL backslash_quote = on", True),
        ("SELECT set_config('standard_conforming_strings', 'off', false)", True),
        ("SELECT set_config('role', 'a', false)", False),
        ("SELECT f('CLIENT_ENCODING')", True),
        ("EXECUTE p('backslash_quote', 'on')", True),
        ("SELECT set_config($1, 'off', false)", True),
        ("SELECT set_config('a' || 'b', 'off', false)", True),
        (r"SELECT set_config(E'standard\x5fconforming_strings', 'off', false)", True),
        ("UPDATE pg_settings SET setting = 'off' WHERE name LIKE 'standard%'", True),
        ("DO $$BEGIN SET NAMES 'SJIS'; END$$", True),
        ("DO $$BEGIN NULL; END$$", False),
    ],
)
def test_statements_that_may_change_how_quotes_are_read(text: str, expected: bool) -> None:
    analyser = Analyser("secrets")
    assert analyser.analyse(text.encode(), True).sets_quoting is expected
    assert analyser.analyse(text.replace("'a'", "'b'").encode() + b" ", True).sets_quoting is expected


def test_details_of_statements_with_a_secret_are_not_shown() -> None:
    analyser = Analyser("secrets")
    assert analyser.redact_detail(b"hunter2", True) == b"***"
    assert analyser.redact_detail(b"hunter2", False) == b"hunter2"
    assert analyser.redact_detail(b"x " + CARD.encode(), False) == b"x ***"
    assert Analyser("none").redact_detail(b"hunter2", True) == b"hunter2"
    assert Analyser("values").redact_detail(b"Key (a)=(5)", False) == b"Key (a)=(***)"


def test_replication_commands_with_a_secret_are_redacted() -> None:
    analyser = Analyser("secrets")
    plain = b"START_REPLICATION SLOT s LOGICAL 0/16B3748 (proto_version '1')"
    assert analyser.replication_command(plain).text is plain
    text = f"BASE_BACKUP LABEL 'password={SECRET}'".encode()
    found = analyser.replication_command(text)
    assert (found.text, found.redacted) == (b"BASE_BACKUP LABEL '***'", True)
    assert Analyser("none").replication_command(text).text == text
