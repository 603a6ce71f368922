"""What random conversations are made of: statements, types of parameters and values of them."""

import datetime
import random
import struct
from collections.abc import Callable

__all__ = ["COPY", "EXTENDED", "NAMES", "PORTALS", "SETUP", "SIMPLE", "TYPES"]

SETUP = (
    "create temp table t (a int, b text)",
    "create temp table d (a int unique deferrable initially deferred)",
)

Value = tuple[str, bytes]


def _timestamptz(rng: random.Random) -> Value:
    days = rng.randrange(0, 20000)
    return _date_text(days) + " 00:00:00+00", (days * 86_400_000_000).to_bytes(8, "big", signed=True)


def _date_text(days: int) -> str:
    return (datetime.date(2000, 1, 1) + datetime.timedelta(days)).isoformat()


def _date(rng: random.Random) -> Value:
    days = rng.randrange(0, 20000)
    return _date_text(days), days.to_bytes(4, "big", signed=True)


def _int(size: int) -> Callable[[random.Random], Value]:
    def make(rng: random.Random) -> Value:
        limit = 1 << (size * 8 - 1)
        value = rng.choice((0, 1, 2, 3, 7, -1, limit - 1, -limit))
        return str(value), value.to_bytes(size, "big", signed=True)

    return make


def _text(rng: random.Random) -> Value:
    value = rng.choice(("", "x", "it's", "a\\b", "two\nlines", "$1 = ''", "ä€\U0001f375", "w" * 3000))
    return value, value.encode()


def _bool(rng: random.Random) -> Value:
    value = rng.random() < 0.5
    return "t" if value else "f", bytes([value])


def _bytea(rng: random.Random) -> Value:
    value = rng.randbytes(rng.randrange(0, 40))
    return "\\x" + value.hex(), value


def _float8(rng: random.Random) -> Value:
    value = rng.choice((0.5, -0.1, 1e300, 123456.789))
    return {1e300: "1e+300"}.get(value, str(value)), struct.pack(">d", value)


def _uuid(rng: random.Random) -> Value:
    value = rng.randbytes(16)
    text = value.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])), value


# type -> (OID, a value as text and binary)
TYPES: dict[str, tuple[int, Callable[[random.Random], Value]]] = {
    "int2": (21, _int(2)),
    "int4": (23, _int(4)),
    "int8": (20, _int(8)),
    "float8": (701, _float8),
    "bool": (16, _bool),
    "text": (25, _text),
    "bytea": (17, _bytea),
    "date": (1082, _date),
    "timestamptz": (1184, _timestamptz),
    "uuid": (2950, _uuid),
}

# Statements of the extended protocol and the types of their parameters.
EXTENDED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("select $1::int4 / 2", ("int4",)),
    ("select 1 / $1::int4", ("int4",)),
    ("select $1::text, $2::int8", ("text", "int8")),
    ("select $1::uuid, $2::bytea, $3::bool", ("uuid", "bytea", "bool")),
    ("select $1::date, $2::timestamptz, $3::float8, $4::int2", ("date", "timestamptz", "float8", "int2")),
    ("select g, repeat('x', 50) from generate_series(1, 7) g", ()),
    ("select g from generate_series(1, 5) g where $1::text is not null", ("text",)),
    ("insert into t values ($1::int4, $2::text)", ("int4", "text")),
    ("insert into t values (1, $1::text), (2, $1) returning a", ("text",)),
    ("insert into d values ($1::int4)", ("int4",)),
    ("update t set b = $2::text where a = $1::int4", ("int4", "text")),
    ("delete from t where a > $1::int4", ("int4",)),
    ("select current_user", ()),
    ("show search_path", ()),
    ("begin", ()),
    ("commit", ()),
    ("rollback", ()),
    ("savepoint a", ()),
    ("rollback to savepoint a", ()),
    ("release a", ()),
    ("set role clerk", ()),
    ("set local role clerk", ()),
    ("reset role", ()),
    ("set search_path to public, pg_temp", ()),
    ("prepare q1 (int4) as select $1 + 1", ()),
    ("execute q1(41)", ()),
    ("deallocate q1", ()),
    ("declare c1 cursor for select generate_series(1, 9)", ()),
    ("fetch 2 from c1", ()),
    ("copy (select generate_series(1, 4)) to stdout", ()),
    ("", ()),
    (" -- nothing", ()),
    ("selec 1", ()),
    ("select * from nowhere", ()),
    ("do $$ begin raise notice 'note'; end $$", ()),
)

SIMPLE: tuple[str, ...] = (
    "select 1",
    "select 1;",
    "select g from generate_series(1, 20) g",
    "select 1; select 2 as two; insert into t values (3, 'three')",
    "select 1; select 1/0; select 3",
    "insert into t values (4, 'a;b'), (5, $$c;d$$), (6, E'e\\';f') returning a",
    "update t set b = 'x' where a = 4; delete from t where a = 5;",
    "insert into d values (1); insert into d values (1)",
    "",
    ";",
    " ; ;; ",
    "-- nothing but a comment",
    "/* one */ select 1 /* two; */ ; -- three\n select 2 /* four /* nested */ */",
    "selec 1",
    "select 1; selec 2",
    "select ';' as \"semi;colon\"; select 2",
    "begin",
    "begin; insert into t values (7, 'seven')",
    "begin; select 1; commit; select 2",
    "begin isolation level serializable read only",
    "commit",
    "commit and chain",
    "rollback",
    "rollback and chain",
    "end",
    "abort",
    "select 1; rollback; select 2",
    "select 1; commit; select 2",
    "select 1; begin; select 2",
    "savepoint a",
    "savepoint a; set role clerk; rollback to a; select current_user",
    "rollback to savepoint a",
    "release savepoint a",
    "set role clerk",
    "set local role clerk",
    "set session role clerk; select 1/0",
    "reset role",
    "set role none",
    "select current_user",
    "set search_path to pg_temp, public",
    "set local search_path = public",
    "show search_path",
    "select set_config('search_path', 'public', true)",
    "set application_name to 'another'",
    "set application_name = 'raw'; select 2",
    "prepare q1 (int4) as select $1 + 1",
    "prepare q2 as select 'q2'; execute q2; deallocate q2",
    "execute q1(1)",
    "execute q1(1); execute q1(2)",
    "deallocate q1",
    "deallocate all",
    "declare c1 cursor for select generate_series(1, 9)",
    "declare c1 cursor with hold for select generate_series(1, 9)",
    "fetch 2 from c1",
    "fetch all from c1",
    "move 1 in c1",
    "close c1",
    "copy (select generate_series(1, 4)) to stdout",
    "copy t to stdout; select 1; copy (select 'x') to stdout (format csv)",
    "do $$ begin raise notice 'note'; perform 1; end $$",
    "do $$ begin raise exception 'raised'; end $$",
    "select * from nowhere",
    "listen here; notify here, 'payload'",
    "create temp table if not exists t (a int)",
    "create function pg_temp.f() returns int begin atomic select 1; select 2; end; select pg_temp.f()",
    "drop function if exists pg_temp.f",
    "discard plans",
    "explain (costs off) select 1; show transaction_isolation",
    "set statement_timeout = 20; select pg_sleep(5)",
    "reset statement_timeout",
    "select 'w' || repeat('x', 100000)",
)

COPY = ("copy t from stdin", "copy t (a) from stdin", "copy nowhere from stdin", "copy t from stdin csv")
NAMES = ("", "", "s1", "s2")
PORTALS = ("", "", "p1", "p2")
