"""The story of samples/demo.pcap: thirty seconds in the life of a shop's database.

Real clients and a real server; only the clock is stretched, and one segment is taken out.
"""

import asyncio
import contextlib
import datetime
import decimal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import psycopg

from samples.place import Place
from tests.support.wrap import Frame, data_indices, parse_tcp

__all__ = ["CLIENTS", "LOST", "Story", "lose"]

# Whose connections these are, in the order in which the story opens them.
WEB, WORKER, MALLORY, ANNA, DBA, REPORT, SECURE = (
    "10.0.1.10",
    "10.0.1.11",
    "10.0.3.66",
    "10.0.3.7",
    "10.0.3.5",
    "10.0.4.30",
    "10.0.1.12",
)
CLIENTS = (WEB, WORKER, MALLORY, MALLORY, MALLORY, ANNA, DBA, REPORT, SECURE, ANNA)
LOST = b"catalogue"


class Story:
    """Tells the story at a place; `steps` are (real µs, story µs) at which each step began."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.steps: list[tuple[int, int]] = []
        self._stack = contextlib.ExitStack()

    def _connect(self, user: str, program: str, **more: str) -> "psycopg.Connection[Any]":
        dsn = self.place.dsn(user, application_name=program, **more)
        return self._stack.enter_context(psycopg.connect(dsn, autocommit=True))

    def tell(self) -> None:
        """All of it, as fast as the server answers."""
        with self._stack, asyncio.Runner() as runner:
            self._runner = runner
            for second, step in self._story():
                self.steps.append((time.time_ns() // 1000, round(second * 1_000_000)))
                step()

    def stretched(self, moment: int) -> int:
        """The story's time (µs from its begin) of a real one."""
        real, told = max(step for step in self.steps if step[0] <= moment or step is self.steps[0])
        return told + max(moment - real, 0)

    def _story(self) -> Iterator[tuple[float, Callable[[], Any]]]:
        execute = self._execute
        yield 0.0, lambda: setattr(self, "web", self._connect("app", "shop-web"))
        yield 0.7, lambda: execute("select sku, title, price from products where title ilike %s", "%tea%")
        yield 1.6, lambda: execute("select id, name from customers where email = %s", "customer7@example.com")
        yield 2.9, self._start_worker
        yield 3.6, self._worker_reads
        yield 4.4, self._order
        yield 6.1, self._bad_order
        yield 7.5, lambda: self._fail("dba", "shop", password="letmein")
        yield 8.2, lambda: self._fail("dba", "shop", password="dba123")
        yield 9.0, lambda: self._fail("admin", "shop", password="admin")
        yield 10.1, lambda: setattr(self, "anna", self._connect("anna", "psql"))
        yield 11.3, lambda: self.anna.execute("select name, email, balance from customers where balance > 30")
        yield 12.2, self._worker_writes
        yield 13.4, lambda: setattr(self, "dba", self._connect("dba", "psql"))
        yield 14.8, lambda: self.dba.execute("alter role anna with password 'Winter-2026!'")
        yield 15.9, lambda: self.dba.execute("drop table old_prices")
        yield 16.6, lambda: self.dba.execute("grant select on customers to report")
        yield 17.4, self._copy_customers
        yield 19.5, self._secure
        yield (
            21.2,
            lambda: self.web.execute(
                "/* catalogue */ select n, p.* from products p, generate_series(1, 45) n"
            ),
        )
        yield 22.8, self._cancelled
        yield (
            25.3,
            lambda: self.anna.execute(
                "set role clerk; update orders set amount = 2 where id = 1; reset role"
            ),
        )
        yield 26.9, lambda: execute("delete from orders where customer = %s and placed < now()", 7)
        yield 28.0, lambda: self._runner.run(self.worker.close())
        yield 28.6, lambda: self._close(self.anna)
        yield 29.2, lambda: self._close(self.dba)
        yield 29.8, lambda: self._close(self.web)

    web: "psycopg.Connection[Any]"
    anna: "psycopg.Connection[Any]"
    dba: "psycopg.Connection[Any]"
    worker: Any

    def _execute(self, text: str, *values: object) -> None:
        self.web.execute(text.encode(), values)

    @staticmethod
    def _close(connection: "psycopg.Connection[Any]") -> None:
        # At its step: the attribute does not exist before.
        connection.close()

    def _fail(self, user: str, database: str, **more: str) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.place.dsn(user, database, application_name="psql", **more))

    def _start_worker(self) -> None:
        server = self.place.server
        self.worker = self._runner.run(
            asyncpg.connect(
                host=server.host,
                port=self.place.port,
                user="app",
                password=self.place.password("app"),
                database="shop",
                ssl=False,
                server_settings={"application_name": "shop-worker"},
            )
        )

    def _worker_reads(self) -> None:
        text = "select id, amount from orders where customer between $1 and $2 and placed::date >= $3"
        self._runner.run(self.worker.fetch(text, 3, 7, datetime.date(2026, 9, 1)))

    def _worker_writes(self) -> None:
        rows = [(1, "TEA-1", 2), (4, "CUP-1", 1), (9, "TEA-2", 5)]
        self._runner.run(
            self.worker.executemany("insert into orders (customer, sku, amount) values ($1, $2, $3)", rows)
        )

    def _order(self) -> None:
        with self.web.transaction():
            self._execute(
                "insert into orders (customer, sku, amount) values (%s, %s, %s) returning id", 7, "CUP-1", 2
            )
            self._execute(
                "update customers set balance = balance - %s where id = %s", decimal.Decimal("24.00"), 7
            )

    def _bad_order(self) -> None:
        with contextlib.suppress(psycopg.errors.ForeignKeyViolation):
            self._execute("insert into orders (customer, sku, amount) values (%s, %s, %s)", 7, "CUP-9", 1)

    def _copy_customers(self) -> None:
        connection = self._connect("report", "nightly-export")
        with (
            connection.cursor() as cursor,
            cursor.copy("copy customers (name, email, balance) to stdout") as copy,
        ):
            for _ in copy:
                pass
        connection.close()

    def _secure(self) -> None:
        connection = self._connect(
            "app", "shop-payments", sslmode="require" if self.place.server.tls else "disable"
        )
        connection.execute("select balance from customers where id = %s", (7,))
        connection.close()

    def _cancelled(self) -> None:
        def cancel() -> None:
            self.place.wait_active("pg_sleep(60)")
            self.steps.append((time.time_ns() // 1000, 24_300_000))
            self.anna.cancel_safe(timeout=20)

        thread = threading.Thread(target=cancel)
        thread.start()
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            self.anna.execute("select sum(a.amount * b.amount) from orders a, orders b, pg_sleep(60)")
        thread.join()


def lose(frames: list[Frame]) -> list[Frame]:
    """The frames without one segment from the middle of the answer to the statement that says LOST."""
    asked = next(index for index, frame in enumerate(frames) if LOST in frame.bytes)
    segment = parse_tcp(frames[asked].bytes)
    assert segment is not None
    full = [
        index
        for index in data_indices(frames, "server")
        if index > asked and frames[index].payload_len > 1000 and _to(frames[index], segment.src)
    ]
    return [frame for index, frame in enumerate(frames) if index != full[1]]


def _to(frame: Frame, client: tuple[str, int]) -> bool:
    segment = parse_tcp(frame.bytes)
    return segment is not None and segment.dst == client
