"""What libpg_query makes of statements: class, tables, effects, normalised text; and no crash."""

import postgast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.audit import sqlfacts
from mirror_audit.audit.scanner import Scan, literal_spans, scan
from mirror_audit.audit.sqlfacts import Effect, Facts, effects, facts


def of(text: str) -> Facts:
    out = Scan()
    scan(text.encode(), True, out)
    return facts(out.skeleton)


CLASSES = {
    "READ": [
        "SELECT 1",
        "TABLE t",
        "VALUES (1)",
        "WITH c AS (SELECT 1) SELECT * FROM c",
        "SELECT * FROM t FOR UPDATE",
        "SELECT f(1)",
        "COPY t TO STDOUT",
        "COPY (SELECT 1) TO '/x'",
        "DECLARE c CURSOR FOR SELECT 1",
        "PREPARE p AS SELECT 1",
    ],
    "WRITE": [
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
        "TRUNCATE t",
        "COPY t FROM STDIN",
        "WITH c AS (DELETE FROM t RETURNING *) SELECT * FROM c",
        "COPY (INSERT INTO t VALUES (1) RETURNING a) TO STDOUT",
        "PREPARE p AS INSERT INTO t VALUES ($1)",
        "EXPLAIN ANALYZE DELETE FROM t",
    ],
    "FUNCTION": ["DO $$ BEGIN END $$"],
    "ROLE": [
        "CREATE ROLE r",
        "CREATE USER r PASSWORD 'x'",
        "CREATE GROUP r",
        "ALTER ROLE r LOGIN",
        "ALTER GROUP g ADD USER u",
        "ALTER ROLE r SET work_mem = '1GB'",
        "ALTER ROLE r RENAME TO s",
        "DROP USER r",
        "GRANT SELECT ON t TO r",
        "REVOKE r FROM s",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r",
        "CREATE USER MAPPING FOR r SERVER s",
        "ALTER USER MAPPING FOR r SERVER s OPTIONS (a 'b')",
    ],
    "DDL": [
        "CREATE TABLE t (a int)",
        "CREATE TABLE t AS SELECT 1",
        "SELECT 1 INTO t",
        "SELECT 1 INTO t UNION SELECT 2",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        "ALTER TABLE t ADD b int",
        "ALTER TABLE t RENAME TO u",
        "DROP TABLE t",
        "DROP USER MAPPING FOR r SERVER s",
        "DROP OWNED BY r",
        "CREATE INDEX ON t (a)",
        "COMMENT ON TABLE t IS 'x'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "REFRESH MATERIALIZED VIEW m",
        "CLUSTER t USING i",
        "CREATE EXTENSION x",
    ],
    "MISC": [
        "BEGIN",
        "COMMIT",
        "ROLLBACK TO s",
        "SET work_mem = '1GB'",
        "SET ROLE r",
        "RESET ALL",
        "SHOW work_mem",
        "DISCARD ALL",
        "FETCH 1 FROM c",
        "CLOSE c",
        "CHECKPOINT",
        "VACUUM t",
        "ANALYZE t",
        "REINDEX TABLE t",
        "LOCK t",
        "LISTEN x",
        "NOTIFY x, 'y'",
        "LOAD 'x'",
        "EXECUTE p(1)",
        "DEALLOCATE p",
        "EXPLAIN DELETE FROM t",
        "EXPLAIN ANALYZE SELECT 1",
        "CALL p(1)",
        "SET CONSTRAINTS ALL DEFERRED",
    ],
}


@pytest.mark.parametrize(
    ("expected", "text"), [(name, text) for name, texts in CLASSES.items() for text in texts]
)
def test_class(expected: str, text: str) -> None:
    found = of(text)
    assert found.parsed
    assert found.statement_class == expected.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", ""),
        (
            "SELECT (SELECT 1 FROM b) FROM s.a, a AS x JOIN c USING (i), a WHERE EXISTS (SELECT FROM d)",
            "b s.a a c d",
        ),
        ("WITH c AS (SELECT * FROM t) SELECT * FROM c, s.c", "t s.c"),
        ("WITH t AS (SELECT * FROM t) SELECT * FROM t", "t"),
        ("WITH RECURSIVE t AS (SELECT 1 UNION SELECT * FROM t) SELECT * FROM t", ""),
        ("WITH a AS (SELECT 1), b AS (SELECT * FROM a, c), c AS (SELECT 1) SELECT * FROM b, c", "c"),
        ("SELECT * FROM (WITH c AS (SELECT 1) SELECT * FROM c) x, c", "c"),
        ("WITH c AS (SELECT 1) INSERT INTO c SELECT * FROM c", "c"),
        ("INSERT INTO s.t SELECT * FROM u ON CONFLICT DO NOTHING", "s.t u"),
        ("UPDATE t SET a = 1 FROM u WHERE b IN (SELECT c FROM v)", "t u v"),
        ("DELETE FROM t USING u", "t u"),
        ("MERGE INTO t USING (SELECT * FROM s) x ON true WHEN MATCHED THEN DELETE", "t s"),
        ("SELECT * FROM t x FOR UPDATE OF x", "t"),
        ("TRUNCATE a, b.c", "a b.c"),
        ("LOCK a, b", "a b"),
        ("COPY s.t (a) FROM STDIN", "s.t"),
        ("COPY (SELECT * FROM t) TO STDOUT", "t"),
        ("GRANT SELECT ON a, b TO r", "a b"),
        ("GRANT USAGE ON SEQUENCE s TO r", ""),
        ("CREATE TABLE t (LIKE a, b int REFERENCES c) INHERITS (d)", "t a c d"),
        ("CREATE TABLE t AS SELECT * FROM u", "t u"),
        ("SELECT 1 INTO t FROM u", "t u"),
        ("CREATE VIEW v AS SELECT * FROM t", "v t"),
        ("CREATE INDEX i ON t (a)", "t"),
        ("CREATE TRIGGER g AFTER INSERT ON t EXECUTE FUNCTION f()", "t"),
        ("ALTER TABLE t ATTACH PARTITION p DEFAULT", "t p"),
        ("ALTER INDEX i RENAME TO j", ""),
        ("ALTER TYPE y ADD ATTRIBUTE a int", ""),
        ("CREATE SEQUENCE s", ""),
        ("DROP TABLE a, s.b", "a s.b"),
        ("DROP VIEW v", "v"),
        ("DROP INDEX i", ""),
        ("DROP TRIGGER g ON s.t", "s.t"),
        ("COMMENT ON COLUMN s.t.c IS 'x'", "s.t"),
        ("COMMENT ON TABLE t IS 'x'", "t"),
        ("VACUUM a, b", "a b"),
        ("REINDEX INDEX i", ""),
        ("EXPLAIN SELECT * FROM t", "t"),
        ("PREPARE p AS SELECT * FROM t", "t"),
        ("DECLARE c CURSOR FOR SELECT * FROM t", "t"),
        ('SELECT * FROM db.s.t, ONLY u, "T"', "s.t u T"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 FROM t; END", "t"),
        ("CREATE RULE r AS ON INSERT TO t DO ALSO INSERT INTO u VALUES (1)", "t u"),
    ],
)
def test_tables(text: str, expected: str) -> None:
    found = of(text).tables
    assert found is not None
    assert [name if schema is None else f"{schema}.{name}" for schema, name in found] == expected.split()


def test_tables_are_bounded_and_the_rest_is_counted() -> None:
    found = of("SELECT * FROM " + ", ".join(f"t{i}" for i in range(100)))
    assert found.tables is not None
    assert (len(found.tables), found.tables_left_out) == (sqlfacts.MAX_TABLES, 100 - sqlfacts.MAX_TABLES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", []),
        ("SET ROLE bob", [Effect(sqlfacts.SET_ROLE, b"bob")]),
        ("SET SESSION ROLE 'Bob'", [Effect(sqlfacts.SET_ROLE, b"Bob")]),
        ('SET role TO "bob"', [Effect(sqlfacts.SET_ROLE, b"bob")]),
        ("SET LOCAL ROLE bob", [Effect(sqlfacts.SET_LOCAL_ROLE, b"bob")]),
        ("SET ROLE NONE", [Effect(sqlfacts.SET_ROLE)]),
        ("RESET ROLE", [Effect(sqlfacts.SET_ROLE)]),
        ("SET SESSION AUTHORIZATION bob", [Effect(sqlfacts.SET_SESSION_AUTHORIZATION, b"bob")]),
        ("SET LOCAL SESSION AUTHORIZATION 'b'", [Effect(sqlfacts.SET_LOCAL_SESSION_AUTHORIZATION, b"b")]),
        ("SET SESSION AUTHORIZATION DEFAULT", [Effect(sqlfacts.SET_SESSION_AUTHORIZATION)]),
        (
            "SET search_path TO \"$user\", b, 'C d'",
            [Effect(sqlfacts.SET_SEARCH_PATH, None, b'"$user", b, "C d"')],
        ),
        ("SET LOCAL search_path = ''", [Effect(sqlfacts.SET_LOCAL_SEARCH_PATH, None, b'""')]),
        ("SET SCHEMA 'x'", [Effect(sqlfacts.SET_SEARCH_PATH, None, b"x")]),
        ("SET search_path TO DEFAULT", [Effect(sqlfacts.SET_SEARCH_PATH)]),
        ("RESET search_path", [Effect(sqlfacts.SET_SEARCH_PATH)]),
        ("SET work_mem = 5", []),
        ("SET TRANSACTION READ ONLY", []),
        ("RESET ALL", [Effect(sqlfacts.RESET_ALL)]),
        ("DISCARD ALL", [Effect(sqlfacts.DISCARD_ALL)]),
        ("DISCARD PLANS", [Effect(sqlfacts.DISCARD_PLANS)]),
        ("DISCARD TEMPORARY", [Effect(sqlfacts.DISCARD_TEMP)]),
        ("DISCARD SEQUENCES", [Effect(sqlfacts.DISCARD_SEQUENCES)]),
        ("PREPARE p AS SELECT 1", [Effect(sqlfacts.PREPARE, b"p")]),
        ("EXECUTE p(1)", [Effect(sqlfacts.EXECUTE, b"p")]),
        ("DEALLOCATE p", [Effect(sqlfacts.DEALLOCATE, b"p")]),
        ("DEALLOCATE PREPARE ALL", [Effect(sqlfacts.DEALLOCATE_ALL)]),
        ("START TRANSACTION", [Effect(sqlfacts.BEGIN)]),
        ("END", [Effect(sqlfacts.COMMIT)]),
        ("COMMIT AND CHAIN", [Effect(sqlfacts.COMMIT_AND_CHAIN)]),
        ("ABORT", [Effect(sqlfacts.ROLLBACK)]),
        ("ROLLBACK AND CHAIN", [Effect(sqlfacts.ROLLBACK_AND_CHAIN)]),
        ("PREPARE TRANSACTION 'x'", [Effect(sqlfacts.PREPARE_TRANSACTION)]),
        ("COMMIT PREPARED 'x'", [Effect(sqlfacts.COMMIT_PREPARED)]),
        ("ROLLBACK PREPARED 'x'", [Effect(sqlfacts.ROLLBACK_PREPARED)]),
        ("SAVEPOINT s", [Effect(sqlfacts.SAVEPOINT, b"s")]),
        ("RELEASE s", [Effect(sqlfacts.RELEASE, b"s")]),
        ("ROLLBACK TO SAVEPOINT s", [Effect(sqlfacts.ROLLBACK_TO, b"s")]),
        ("DECLARE c CURSOR FOR SELECT 1", [Effect(sqlfacts.DECLARE_CURSOR, b"c")]),
        ("MOVE 5 IN c", [Effect(sqlfacts.FETCH, b"c")]),
        ("CLOSE c", [Effect(sqlfacts.CLOSE, b"c")]),
        ("CLOSE ALL", [Effect(sqlfacts.CLOSE_ALL)]),
        ("SELECT set_config('role', 'bob', false)", [Effect(sqlfacts.SET_ROLE, b"bob")]),
        ("SELECT pg_catalog.set_config('ROLE', 'none', 't')", [Effect(sqlfacts.SET_LOCAL_ROLE)]),
        (
            "SELECT set_config('search_path', 'a, b', true), set_config('role', $1, is_local => true)",
            [
                Effect(sqlfacts.SET_UNKNOWN, b"role", b"local", 1),
                Effect(sqlfacts.SET_LOCAL_SEARCH_PATH, None, b"a, b"),
            ],
        ),
        ("SELECT set_config('search_path', x, true) FROM t", [Effect(sqlfacts.SET_UNKNOWN, b"search_path")]),
        ("SELECT set_config($1, 'x', true)", [Effect(sqlfacts.SET_UNKNOWN)]),
        ("SELECT set_config('search_path', NULL, false)", [Effect(sqlfacts.SET_SEARCH_PATH)]),
        ("SELECT set_config('work_mem', '1GB', true)", []),
        ("SET ROLE", []),
        ("BEGIN; COMMIT", []),
    ],
)
def test_effects(text: str, expected: list[Effect]) -> None:
    assert list(effects(text.encode(), True)) == expected
    found = of(text)
    assert found.literal_effects or list(found.effects) == expected


def test_effects_without_standard_conforming_strings() -> None:
    text = rb"SET search_path TO 'a\'b', N'c'"
    assert effects(text, False)[0].argument == b'"a\'b", c'
    assert effects(text, True) == ()


def test_fingerprints_are_those_of_pg_query_for_the_text_itself() -> None:
    for text in [
        "SELECT a, 'x', 5, 1.5, B'1' FROM t WHERE b IN (1, 2, 3) AND c = $1 ORDER BY 1",
        "INSERT INTO t (a, b) VALUES (1, 'x'), (2, E'y\\n'), (3, $$z$$)",
        "UPDATE t SET a = interval '1 day' WHERE b = -5",
        "SET search_path TO a, 'b'",
        "ALTER TABLE t ALTER a SET DEFAULT 5",
        "EXECUTE p(1, 'x')",
        "PREPARE p AS SELECT 5",
        "CREATE TABLE t (a numeric(10, 2) DEFAULT 7)",
    ]:
        found = of(text).fingerprint
        assert found == postgast.fingerprint(text).hex.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "SELECT a FROM t  WHERE b = 5 /* x */ AND c = $1 ORDER BY 2",
            "SELECT a FROM t WHERE b = $2 AND c = $1 ORDER BY 2",
        ),
        ("PREPARE p AS SELECT 5", "PREPARE p AS SELECT ?"),
        ("EXECUTE p(1, 'x')", "EXECUTE p(?, ?)"),
        ("ALTER SYSTEM SET a = 'x'", "ALTER SYSTEM SET a = ?"),
        ("CREATE TABLE t (a int DEFAULT 5)", "CREATE TABLE t (a int DEFAULT ?)"),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION ? PUBLICATION p",
        ),
        ("SELECT x::numeric(10,2), float(5) 'x'", "SELECT x::numeric(?,?), float(?) $1"),
        ("SELEC 'x', 5", "SELEC ?, ?"),
        ("SELECT 'x", "SELECT ?"),
    ],
)
def test_normalized_text_has_no_literals(text: str, expected: str) -> None:
    assert of(text).normalized.decode() == expected


@pytest.mark.parametrize(
    "text", ["SELEC 1", "SELECT 'x", "SELECT (", "x", "SELECT 1 FROM t WHERE", "\0", "SELECT 1\0"]
)
def test_what_is_no_sql_has_no_facts(text: str) -> None:
    found = of(text)
    assert (found.parsed, found.statement_class, found.fingerprint, found.tables) == (False, None, None, None)
    assert not found.too_long


@pytest.mark.parametrize("text", ["", ";", "-- x", "/* x */ ;"])
def test_nothing_is_an_empty_statement(text: str) -> None:
    found = of(text)
    assert (found.parsed, found.statement_class, found.tables, found.normalized) == (True, None, (), b"")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
        "SELECT 1" + "+1" * 15_000,
        "SELECT 1" + "::a" * 10_000,
        "SELECT 1" + " UNION SELECT 1" * 2_000,
        "SELECT " + "NOT " * 8_000 + "true",
        "SELECT " + "CASE WHEN " * 3_000,
        "SELECT a" + "[1]" * 10_000,
        "SELECT " + "a," * 20_000 + "a",
    ],
)
def test_libpg_query_is_not_asked_about_what_could_crash_it(text: str) -> None:
    found = of(text)
    assert (found.parsed, found.too_long) == (False, True)
    assert len(found.normalized) <= sqlfacts.MAX_SQL_BYTES
    assert effects(text.encode(), True) == ()


def test_what_is_just_not_too_deep_is_parsed() -> None:
    for text in (
        "SELECT " + "(" * 390 + "1" + ")" * 390,
        "SELECT 1" + " + a" * 390,
        "SELECT 1" + " || 'x'" * 390,
    ):
        assert of(text).parsed


@given(st.text(max_size=80), st.booleans())
def test_any_text_has_facts_of_some_kind(text: str, conforming: bool) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    found = facts(raw)
    assert literal_spans(found.normalized, True) == []
    effects(raw, conforming)
