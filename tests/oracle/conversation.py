"""Random conversations, the same again for the same seed: raw messages in every order that a server takes.

Nothing is said about what must come of them: the server's log and its answers are what records are compared
with. Objects are temporary, so that sessions do not wait for each other.
"""

import random
import struct
from collections.abc import Callable

from tests.oracle.raw import RawClient
from tests.support import pgmsg

__all__ = ["SETUP", "talk_raw"]

SETUP = (
    "create temp table t (a int, b text)",
    "create temp table d (a int unique deferrable initially deferred)",
)

_2000 = 946684800
Value = tuple[str, bytes]


def _timestamptz(rng: random.Random) -> Value:
    days = rng.randrange(0, 20000)
    return _date_text(days) + " 00:00:00+00", (days * 86_400_000_000).to_bytes(8, "big", signed=True)


def _date_text(days: int) -> str:
    import datetime

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


class _Raw:
    def __init__(self, client: RawClient, seed: int, version: int) -> None:
        self.client = client
        self.version = version
        self.rng = random.Random(seed)
        self.known: dict[str, tuple[str, ...]] = {}

    # --- extended protocol ---

    def parse(self, name: str) -> bytes:
        text, types = self.rng.choice(EXTENDED)
        self.known[name] = types
        declared = self.rng.random() < 0.5
        return pgmsg.parse(text, name, [TYPES[one][0] for one in types] if declared else ())

    def bind(self, portal: str, name: str) -> bytes:
        values: list[bytes | None] = []
        formats: list[int] = []
        for kind in self.known.get(name, ()):
            text, binary = TYPES[kind][1](self.rng)
            formats.append(self.rng.randrange(2))
            values.append(None if self.rng.random() < 0.1 else binary if formats[-1] else text.encode())
        if self.rng.random() < 0.03:
            values.append(b"1")
            formats.append(0)
        if all(one == 0 for one in formats) and self.rng.random() < 0.5:
            formats = []
        return pgmsg.bind(values, portal=portal, name=name, formats=formats)

    def usual(self) -> list[bytes]:
        """What a driver sends for one statement."""
        name, portal = self.rng.choice(NAMES), self.rng.choice(PORTALS)
        messages = []
        if name:
            messages.append(pgmsg.close(name))
        messages.append(self.parse(name))
        if self.rng.random() < 0.4:
            messages.append(pgmsg.describe(name, "S"))
        for _ in range(self.rng.choice((1, 1, 1, 3))):
            if portal:
                messages.append(pgmsg.close(portal, "P"))
            messages.append(self.bind(portal, name))
            if self.rng.random() < 0.4:
                messages.append(pgmsg.describe(portal, "P"))
            limits = self.rng.choice(((0,), (0,), (0,), (2,), (2, 2, 0), (1, 0), (3, 100, 1)))
            messages += [pgmsg.execute(portal, limit) for limit in limits]
        return messages

    def strange(self) -> bytes:
        """A message that a driver would not send here.

        The unnamed portal is left alone: if it is that of a simple Query which failed in a transaction block, the
        server looks at memory that it has freed (PostgreSQL 15 and 18 end with a segmentation fault).
        """
        name, portal = self.rng.choice((*NAMES, "nobody")), self.rng.choice(("p1", "p2", "c1", "nobody"))
        choice = self.rng.randrange(8)
        if choice == 0:
            return self.parse(name)
        if choice == 1:
            return self.bind(portal, name)
        if choice == 2:
            return pgmsg.describe(name, "S")
        if choice == 3:
            return pgmsg.describe(portal, "P")
        if choice == 4:
            return pgmsg.close(name, "S")
        if choice == 5:
            return pgmsg.close(portal, "P")
        if choice == 6:
            return pgmsg.flush()
        return pgmsg.execute(portal, self.rng.choice((0, 0, 1, 2)))

    def batch(self) -> list[bytes]:
        messages = []
        for _ in range(self.rng.choice((1, 1, 1, 2, 4))):
            messages += self.usual() if self.rng.random() < 0.7 else []
            if self.rng.random() < 0.4:
                messages.append(self.strange())
        return messages

    def extended(self) -> None:
        self.client.ask(*self.batch(), pgmsg.sync())

    def pipelined(self) -> None:
        """Several Syncs and simple Queries in flight."""
        messages: list[bytes] = []
        count = self.rng.randrange(2, 5)
        for _ in range(count):
            if self.rng.random() < 0.3:
                messages.append(pgmsg.query(self.rng.choice(SIMPLE)))
            else:
                messages += [*self.batch(), pgmsg.sync()]
        if self.rng.random() < 0.3:
            # In pieces, which cut messages anywhere.
            whole = b"".join(messages)
            at = self.rng.randrange(len(whole))
            self.client.send(whole[:at])
            self.client.send(whole[at:])
            self.client.until_ready(count)
        else:
            self.client.ask(*messages, ready=count)

    def mixed(self) -> None:
        """Simple queries and function calls inside a batch; after an error the server ignores them too.

        Known: from PostgreSQL 17 on, ReadyForQuery says in the middle of a batch that a transaction block is open,
        though none was begun; it counts as one that ended unseen. No driver does this, so only old servers are
        asked.
        """
        messages: list[bytes] = []
        for _ in range(self.rng.randrange(1, 4)):
            messages += self.usual()
            odd = self.rng.random()
            if odd < 0.4:
                messages.append(pgmsg.query(self.rng.choice(SIMPLE)))
            elif odd < 0.6:
                messages.append(pgmsg.function_call(177, ["1", "2"]))
        mark = f"mark {self.rng.randrange(1 << 30)}"
        # The Query before may have left a block that failed: only ROLLBACK is sure to end it.
        self.client.send(*messages, pgmsg.sync(), pgmsg.query("rollback"), pgmsg.query(f"select '{mark}'"))
        self.client.until_value(mark)

    # --- simple protocol and the rest ---

    def simple(self) -> None:
        self.client.ask(pgmsg.query(self.rng.choice(SIMPLE)))

    def function(self) -> None:
        if self.rng.random() < 0.7:
            self.client.ask(pgmsg.function_call(177, ["20", "22"]))
        else:
            self.client.ask(pgmsg.function_call(self.rng.choice((0, 154)), ["1", "0"]))

    def _copy_data(self) -> list[bytes]:
        rows = [f"{number}\trow {number}\n" for number in range(self.rng.randrange(0, 6))]
        if self.rng.random() < 0.2:
            rows.append("no number\n")
        data = [pgmsg.copy_data(row) for row in rows]
        last = pgmsg.copy_done() if self.rng.random() < 0.8 else pgmsg.copy_fail("given up")
        return [*data, last]

    def copy_simple(self) -> None:
        text = self.rng.choice(COPY)
        if self.rng.random() < 0.3:
            text = self.rng.choice(("select 1; {}; select 2", "{}; {}", "begin; {}")).replace("{}", text)
        if text.count("from stdin") == 1 and self.rng.random() < 0.3:
            self.client.ask(pgmsg.query(text), *self._copy_data(), pgmsg.query("select 1"), ready=2)
            return
        self.client.send(pgmsg.query(text))
        while self.client.until(b"G", b"Z") == b"G":
            self.client.send(*self._copy_data())

    def copy_extended(self) -> None:
        start = [pgmsg.parse(self.rng.choice(COPY)), pgmsg.bind(), pgmsg.execute()]
        way = self.rng.randrange(4)
        if way == 0:
            # Everything at once.
            self.client.ask(*start, *self._copy_data(), pgmsg.sync())
        elif way == 1:
            # As libpq does: a Sync that the server takes for a part of the data.
            self.client.send(*start, pgmsg.sync())
            if self.client.until(b"G", b"Z") == b"G":
                self.client.ask(*self._copy_data(), pgmsg.sync())
        elif way == 2:
            self.client.send(*start, pgmsg.flush())
            copying = self.client.until(b"G", b"E") == b"G"
            self.client.ask(*(self._copy_data() if copying else []), pgmsg.sync())
        else:
            behind = [*self.usual(), pgmsg.sync(), pgmsg.query("select 'behind'")]
            self.client.ask(*self.usual(), *start, *self._copy_data(), pgmsg.sync(), *behind, ready=3)

    def run(self, steps: int) -> None:
        ways = (
            [self.simple] * 6
            + [self.extended] * 8
            + [self.pipelined] * 4
            + [self.function, self.copy_simple, self.copy_extended]
        )
        if self.version < 17:
            ways.append(self.mixed)
        for _ in range(steps):
            if self.client.closed:
                return
            self.rng.choice(ways)()


def talk_raw(client: RawClient, seed: int, steps: int, version: int) -> None:
    """Make the tables, take `steps` random steps and end somehow; `version` is the server's."""
    for text in SETUP:
        client.ask(pgmsg.query(text))
    raw = _Raw(client, seed, version)
    raw.run(steps)
    ending = raw.rng.randrange(4)
    if ending == 0:
        client.send(pgmsg.query("select pg_terminate_backend(pg_backend_pid())"))
        client.until_ready()
    client.close(politely=ending != 1)
