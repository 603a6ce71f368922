"""Random conversations, the same again for the same seed: raw messages in every order that a server takes.

Nothing is said about what must come of them: the server's log and its answers are what records are compared
with. Objects are temporary, so that sessions do not wait for each other.
"""

import random
from collections.abc import Callable

from tests.oracle.raw import RawClient
from tests.oracle.texts import COPY, EXTENDED, NAMES, PORTALS, SETUP, SIMPLE, TYPES
from tests.support import pgmsg

__all__ = ["PECULIAR", "talk_raw"]


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

        The unnamed portal and the cursors of SQL's DECLARE are left alone: after a failed simple Query or
        FETCH the server may look at memory that it has freed (15 and 18 end with a segmentation fault).
        """
        name, portal = self.rng.choice((*NAMES, "nobody")), self.rng.choice(("p1", "p2", "nobody"))
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

        Known: from PostgreSQL 17 on, ReadyForQuery says in the middle of a batch that a transaction block is
        open, though none was begun; it counts as one that ended unseen. No driver does this, so only older
        servers are asked.
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


def _encodings(client: RawClient) -> None:
    client.ask(pgmsg.query(b"select '\xff'"))
    client.ask(pgmsg.parse(b"select '\xff'"), pgmsg.bind(), pgmsg.execute(), pgmsg.sync())
    for name, codec, word in (("latin1", "latin-1", "café"), ("sjis", "shift_jis", "表示")):
        encoded = word.encode(codec)
        client.ask(pgmsg.query(f"set client_encoding to {name}"))
        client.ask(pgmsg.query(b"select '" + encoded + b"'; select 2"))
        client.ask(
            pgmsg.parse(b"select $1::text || '" + encoded + b"'"),
            pgmsg.bind([encoded]),
            pgmsg.execute(),
            pgmsg.sync(),
        )
    client.ask(pgmsg.query("set client_encoding to utf8; set standard_conforming_strings = off"))
    client.ask(pgmsg.query(r"select 'a\'; b'; select 2"))


def _names(client: RawClient) -> None:
    """One name space for SQL's PREPARE and Parse, one for SQL's DECLARE and Bind."""

    def use(name: str, value: str) -> list[bytes]:
        return [pgmsg.bind([value], name=name), pgmsg.execute()]

    def execute(text: str) -> list[bytes]:
        return [pgmsg.parse(text), pgmsg.bind(), pgmsg.execute()]

    batch = [*execute("prepare x (int4) as select $1 + 1"), pgmsg.describe("x"), *use("x", "5")]
    client.ask(*batch, *execute("deallocate x"), *use("x", "6"), pgmsg.sync())
    client.ask(pgmsg.parse("select 1 / $1::int", "y"), pgmsg.sync())
    for text in ("execute y(1)", "execute y(0)", "deallocate y", "execute y(1)"):
        client.ask(pgmsg.query(text))
    client.ask(*use("y", "1"), pgmsg.sync())
    client.ask(pgmsg.query("begin"))
    client.ask(pgmsg.query("declare c cursor for select generate_series(1, 5)"))
    client.ask(pgmsg.execute("c", 2), pgmsg.execute("c"), pgmsg.sync())
    client.ask(pgmsg.query("rollback; begin"))
    walk = [pgmsg.parse("select generate_series(1, 9)"), pgmsg.bind(portal="p"), pgmsg.execute("p", 2)]
    client.ask(*walk, pgmsg.sync())
    client.ask(pgmsg.query("fetch 3 from p"))
    client.ask(pgmsg.execute("p", 2), pgmsg.sync())
    client.ask(pgmsg.query("close p"))
    client.ask(pgmsg.execute("p"), pgmsg.sync())


def _failed_batches(client: RawClient) -> None:
    """What is skipped behind an error has its text and values nevertheless."""
    two = [pgmsg.bind(["1"], name="s"), pgmsg.execute(), pgmsg.bind(["2"], name="s"), pgmsg.execute()]
    client.ask(pgmsg.parse("select * from nowhere where a = $1", "s"), *two, pgmsg.sync())
    client.ask(pgmsg.parse("select 1 / $1::int", "s"), pgmsg.sync())
    client.ask(pgmsg.bind(["x"], portal="p", name="s"), pgmsg.execute("p"), pgmsg.execute("p"), pgmsg.sync())
    client.ask(pgmsg.bind(["0"], name="s"), pgmsg.execute(), *two, pgmsg.sync())


def _failed_commits(client: RawClient) -> None:
    """A deferred constraint fails at COMMIT, or where an implicit transaction ends: all is rolled back."""

    def execute(text: str) -> list[bytes]:
        return [pgmsg.parse(text), pgmsg.bind(), pgmsg.execute()]

    client.ask(pgmsg.query("create temp table d (a int unique deferrable initially deferred)"))
    twice = "insert into d values (1), (1)"
    client.ask(pgmsg.query(f"{twice}; set role clerk"))
    client.ask(*execute(twice), *execute("set role clerk"), pgmsg.sync())
    for last in ([pgmsg.query("commit")], [*execute("commit"), *execute("select 'skipped'"), pgmsg.sync()]):
        client.ask(pgmsg.query("select current_user"))
        client.ask(pgmsg.query(f"begin; {twice}; set role clerk"))
        client.ask(*last)
    client.ask(pgmsg.query("select current_user"))


# What random conversations have too seldom.
PECULIAR: dict[str, Callable[[RawClient], None]] = {
    "encodings": _encodings,
    "names": _names,
    "failed_batches": _failed_batches,
    "failed_commits": _failed_commits,
}
