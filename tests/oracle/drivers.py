"""Random conversations of real drivers, the same again for the same seed.

Each statement has a number in a comment; what the driver said came of it (command tag, rows, SQLSTATE) is
kept by that number and compared with the records that have it in their text.
"""

import asyncio
import contextlib
import datetime
import decimal
import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import psycopg

from tests.oracle.recording import Record
from tests.support.samples import Place

__all__ = ["Seen", "talk_asyncpg", "talk_psycopg"]

VALUES: tuple[tuple[str, Callable[[random.Random], Any]], ...] = (
    ("int4", lambda rng: rng.randrange(-(1 << 31), 1 << 31)),
    ("int8", lambda rng: rng.randrange(-(1 << 63), 1 << 63)),
    ("float8", lambda rng: rng.choice((0.1, -1.5e-300, 3.0, 1e20, float("inf")))),
    ("numeric", lambda rng: decimal.Decimal(rng.randrange(-(10**20), 10**20)).scaleb(-rng.randrange(0, 12))),
    ("text", lambda rng: rng.choice(("", "it's", "NULL", "a\\b\n", "ä€\U0001f375", "x" * 5000))),
    ("bytea", lambda rng: rng.randbytes(rng.randrange(0, 300))),
    ("bool", lambda rng: rng.random() < 0.5),
    ("uuid", lambda rng: uuid.UUID(int=rng.getrandbits(128))),
    ("date", lambda rng: datetime.date(1900, 1, 1) + datetime.timedelta(rng.randrange(90000))),
    ("timestamptz", lambda rng: datetime.datetime.fromtimestamp(rng.randrange(4 * 10**9), datetime.UTC)),
    ("interval", lambda rng: datetime.timedelta(rng.randrange(-99, 99), rng.randrange(86400), 123456)),
    ("int4[]", lambda rng: [rng.randrange(100), None][: rng.randrange(3)]),
)


class Seen:
    """What a driver saw, by the number of the statement."""

    def __init__(self) -> None:
        self.outcomes: dict[int, list[str]] = defaultdict(list)
        self._number = 0

    def mark(self, text: str) -> tuple[str, int]:
        """The statement with a number of its own."""
        self._number += 1
        return f"{text} /*n={self._number}.*/", self._number

    def disagreements(self, records: Sequence[Record]) -> list[str]:
        """Where the statement records of the session are not what the driver saw, a line each."""
        found = []
        for number, outcomes in self.outcomes.items():
            told = []
            for record in records:
                body = record["statement"]
                if f"/*n={number}.*/" in (body["text"] or "") and body["outcome"] != "skipped":
                    told.append(
                        body["sqlstate"] or body["command_tag"] or f"{body['outcome']} {body['rows']}"
                    )
            if told != outcomes:
                found.append(f"statement {number}: the driver saw {outcomes}, told is {told}")
        return found


class _Psycopg:
    def __init__(self, place: Place, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seen = Seen()
        dsn = place.dsn(application_name=f"psycopg {seed}")
        self.connection = psycopg.connect(dsn, autocommit=self.rng.random() < 0.6)
        self.connection.prepare_threshold = self.rng.choice((0, 1, None))
        self.connection.prepared_max = 3

    def _run(self, text: str, values: Sequence[Any] | None = None, **more: Any) -> bool:
        marked, number = self.seen.mark(text)
        binary = self.rng.random() < 0.5
        with self.connection.cursor(binary=binary) as cursor:
            try:
                cursor.execute(marked.encode(), values, **more)
            except psycopg.Error as error:
                self.seen.outcomes[number].append(error.sqlstate or "?")
                return False
            while True:
                self.seen.outcomes[number].append(cursor.statusmessage or "?")
                if not cursor.nextset():
                    return True

    def _value(self) -> tuple[str, Any]:
        kind, make = self.rng.choice(VALUES)
        return kind, None if self.rng.random() < 0.1 else make(self.rng)

    def parameters(self) -> None:
        pairs = [self._value() for _ in range(self.rng.randrange(1, 5))]
        marks = ", ".join(f"{self.rng.choice(('%s', '%b', '%t'))}::{kind}" for kind, _ in pairs)
        with contextlib.suppress(psycopg.ProgrammingError):
            # Some types have no binary form in the driver, which it notices before it sends anything.
            self._run(f"select {marks}", [value for _, value in pairs])

    def simple(self) -> None:
        self._run(self.rng.choice(("select 1", "select generate_series(1, 30)", "show work_mem", "selec 1")))

    def write(self) -> None:
        text = self.rng.choice(
            ("insert into t values (%s, %s)", "insert into t select %s, %s from generate_series(1, 5)")
        )
        self._run(text, (self.rng.randrange(9), "v"))
        self._run(self.rng.choice(("update t set b = %s where a < 4", "delete from t where b = %s")), ("w",))

    def error(self) -> None:
        self._run(*self.rng.choice((("select 1 / %s", (0,)), ("select * from nowhere where a = %s", (1,)))))

    def transaction(self) -> None:
        with contextlib.suppress(psycopg.Error), self.connection.transaction():
            self.write()
            with contextlib.suppress(psycopg.Error), self.connection.transaction():
                if not self._run("select 1 / %s", (self.rng.randrange(2),)):
                    raise psycopg.Error
                self._run("set local role clerk")
            self._run("select current_user")

    def pipeline(self) -> None:
        cursors = []
        with contextlib.suppress(psycopg.Error), self.connection.pipeline() as pipeline:
            for _ in range(self.rng.randrange(2, 6)):
                marked, number = self.seen.mark(
                    "select 1 / %s" if self.rng.random() < 0.3 else "insert into t values (%s, 'p')"
                )
                cursors.append((number, self.connection.execute(marked.encode(), (self.rng.randrange(3),))))
                if self.rng.random() < 0.2:
                    pipeline.sync()
        for number, cursor in cursors:
            if cursor.statusmessage:
                self.seen.outcomes[number].append(cursor.statusmessage)

    def many(self) -> None:
        marked, number = self.seen.mark("insert into t values (%s, %s)")
        count = self.rng.randrange(1, 6)
        with contextlib.suppress(psycopg.Error), self.connection.cursor() as cursor:
            cursor.executemany(marked.encode(), [(one, f"many {one}") for one in range(count)])
            self.seen.outcomes[number] = ["INSERT 0 1"] * count

    def copy(self) -> None:
        marked, number = self.seen.mark("copy t from stdin")
        with self.connection.cursor() as cursor:
            try:
                with cursor.copy(marked.encode()) as copy:
                    for one in range(self.rng.randrange(50)):
                        copy.write_row((one, "copied"))
                    if self.rng.random() < 0.2:
                        copy.write(b"no number\n")
                self.seen.outcomes[number].append(cursor.statusmessage or "?")
            except psycopg.Error as error:
                self.seen.outcomes[number].append(error.sqlstate or "?")

    def cursor(self) -> None:
        with contextlib.suppress(psycopg.Error), self.connection.transaction():
            marked, _ = self.seen.mark("select generate_series(1, %s)")
            with self.connection.cursor("walk") as cursor:
                cursor.itersize = 7
                cursor.execute(marked.encode(), (20,))
                cursor.fetchmany(3)
                for _ in cursor:
                    pass

    def run(self, steps: int) -> None:
        self._run("create temp table t (a int, b text)")
        self.connection.commit()
        ways = [self.parameters] * 4 + [self.simple, self.write, self.error, self.transaction]
        ways += [self.pipeline, self.pipeline, self.many, self.copy, self.cursor]
        for _ in range(steps):
            self.rng.choice(ways)()
            if not self.connection.autocommit and self.rng.random() < 0.5:
                self.rng.choice((self.connection.commit, self.connection.rollback))()
        self.connection.close()


def talk_psycopg(place: Place, seed: int, steps: int) -> tuple[int, Seen]:
    """Some random steps; gives the server's process and what the driver saw."""
    talker = _Psycopg(place, seed)
    pid = talker.connection.info.backend_pid
    talker.run(steps)
    return pid, talker.seen


async def _asyncpg(place: Place, seed: int, steps: int) -> tuple[int, Seen]:
    rng = random.Random(seed)
    seen = Seen()
    connection = await asyncpg.connect(
        host=place.server.host,
        port=place.port,
        user="anna",
        password=place.password("anna"),
        database="shop",
        ssl=False,
        statement_cache_size=rng.choice((0, 2, 100)),
        server_settings={"application_name": f"asyncpg {seed}"},
    )
    pid = connection.get_server_pid()

    async def fetch(text: str, *values: Any) -> None:
        marked, number = seen.mark(text)
        try:
            rows = await connection.fetch(marked, *values)
            seen.outcomes[number].append(f"SELECT {len(rows)}")
        except asyncpg.PostgresError as error:
            seen.outcomes[number].append(error.sqlstate or "?")

    async def execute(text: str) -> None:
        marked, number = seen.mark(text)
        try:
            seen.outcomes[number].append(await connection.execute(marked))
        except asyncpg.PostgresError as error:
            seen.outcomes[number].append(error.sqlstate or "?")

    async def parameters() -> None:
        kind, make = rng.choice(VALUES)
        await fetch(f"select $1::{kind}", None if rng.random() < 0.1 else make(rng))

    async def series() -> None:
        await fetch("select generate_series(1, $1)", rng.randrange(40))

    async def error() -> None:
        await fetch("select 1 / $1::int", rng.randrange(2))

    async def write() -> None:
        await execute(
            rng.choice(("insert into t values (1), (2)", "delete from t", "update t set a = a / 0"))
        )

    async def cursor() -> None:
        marked, number = seen.mark("select generate_series(1, 20)")
        async with connection.transaction():
            walk = await connection.cursor(marked)
            for size in (3, 10, 100):
                rows = await walk.fetch(size)
                seen.outcomes[number].append(
                    f"suspended {size}" if len(rows) == size else f"SELECT {len(rows)}"
                )

    async def many() -> None:
        marked, number = seen.mark("insert into t values ($1)")
        count = rng.randrange(1, 8)
        await connection.executemany(marked, [(one,) for one in range(count)])
        seen.outcomes[number] = ["INSERT 0 1"] * count

    async def copy() -> None:
        await connection.copy_records_to_table("t", records=[(one,) for one in range(rng.randrange(40))])

    async def rolled_back() -> None:
        transaction = connection.transaction()
        await transaction.start()
        await write()
        await error()
        await transaction.rollback()

    await execute("create temp table t (a int)")
    ways = [parameters, parameters, parameters, series, error, write, cursor, many, copy, rolled_back]
    for _ in range(steps):
        await rng.choice(ways)()
    await connection.close()
    return pid, seen


def talk_asyncpg(place: Place, seed: int, steps: int) -> tuple[int, Seen]:
    """Some random steps; gives the server's process and what the driver saw."""
    return asyncio.run(_asyncpg(place, seed, steps))
