"""Conversations of Python drivers that speak the protocol themselves: asyncpg and pg8000."""

import asyncio
import contextlib
import datetime
import decimal
import ssl
from typing import Any

import asyncpg
import pg8000.native

from samples.place import Place, conversation, key_log
from samples.values import VALUES

__all__: list[str] = []


@conversation(tls=True)
def tls_asyncpg(place: Place) -> None:
    """asyncpg over TLS 1.2, with a server name in its ClientHello."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if log := key_log():
        context.keylog_filename = log

    async def talk() -> None:
        connection = await asyncpg.connect(
            host="localhost",
            port=place.port,
            user="anna",
            password=place.password("anna"),
            database="shop",
            ssl=context,
        )
        await connection.fetch("select sku from products where price > $1", decimal.Decimal(5))
        await connection.close()

    asyncio.run(talk())


async def _asyncpg(place: Place, user: str = "app", **settings: str) -> Any:
    return await asyncpg.connect(
        host=place.server.host,
        port=place.port,
        user=user,
        password=place.password(user),
        database="shop",
        ssl=False,
        server_settings={"application_name": "shop-async"} | settings,
    )


@conversation()
def asyncpg_binary(place: Place) -> None:
    """asyncpg: named prepared statements, every parameter in binary format, many types."""

    async def talk() -> None:
        connection = await _asyncpg(place)
        for kind, value in VALUES:
            await connection.fetchval(f"select $1::{kind}", value)
        await connection.fetchval("select $1::jsonb", '{"a": [1, null, "x"]}')
        await connection.fetchval("select $1::json", "[true]")
        await connection.fetchval("select $1::point", (1.5, -2.0))
        await connection.fetchval("select $1::timetz", datetime.time(1, 2, 3, tzinfo=datetime.UTC))
        await connection.fetchval("select $1::bit(5)", asyncpg.BitString("10101"))
        await connection.fetchval("select $1::int4range", asyncpg.Range(1, 10))
        await connection.fetchval("select $1::oid", 4294967295)
        await connection.fetch(
            "select * from customers where id = any($1) and name like $2", [1, 2, 3], "Customer%"
        )
        with contextlib.suppress(Exception):
            await connection.fetch("select * from nowhere where id = $1", 1)
        await connection.close()

    asyncio.run(talk())


@conversation()
def asyncpg_statements(place: Place) -> None:
    """asyncpg: prepare, portals with a row limit, executemany, transactions, a timeout that cancels."""

    async def talk() -> None:
        connection = await _asyncpg(place)
        statement = await connection.prepare("select id, name from customers where id > $1 order by id")
        await statement.fetch(5)
        await statement.fetchrow(8)
        async with connection.transaction():
            async for _ in connection.cursor("select generate_series(1, $1)", 25, prefetch=10):
                pass
            cursor = await statement.cursor(0)
            await cursor.fetch(4)
            await cursor.forward(2)
            await cursor.fetch(100)
        await connection.executemany(
            "insert into old_prices values ($1, $2, $3)", [(f"A-{n}", n, None) for n in range(6)]
        )
        with contextlib.suppress(Exception):
            await connection.executemany(
                "insert into products (sku) values ($1)", [("D-1",), ("D-2",), ("D-1",), ("D-3",)]
            )
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("delete from old_prices where sku like 'A-%'")
        await transaction.rollback()
        with contextlib.suppress(TimeoutError):
            await connection.fetch("select pg_sleep(30)", timeout=0.2)
        await connection.execute("delete from old_prices where sku like 'A-%'; select 1; select 2")
        await connection.close()

    asyncio.run(talk())


@conversation()
def asyncpg_copy(place: Place) -> None:
    """asyncpg: COPY in of records in binary format, COPY out of a query."""

    async def talk() -> None:
        connection = await _asyncpg(place)
        rows = [(f"B-{number}", decimal.Decimal(number), datetime.date(2026, 1, 1)) for number in range(40)]
        await connection.copy_records_to_table("old_prices", records=rows)

        async def ignore(_: bytes) -> None:
            pass

        await connection.copy_from_query("select * from old_prices where sku like $1", "B-%", output=ignore)
        await connection.execute("delete from old_prices where sku like 'B-%'")
        await connection.close()

    asyncio.run(talk())


@conversation()
def pg8000_basic(place: Place) -> None:
    """pg8000: a driver in plain Python; unnamed and named statements, text parameters, an error."""
    connection = pg8000.native.Connection(
        "app",
        host=place.server.host,
        port=place.port,
        password=place.password("app"),
        database="shop",
        application_name="pg8000",
    )
    connection.run("select :a::int + :b::int", a=40, b=2)
    statement = connection.prepare("select name from customers where id = :id")
    for number in (1, 2, 3):
        statement.run(id=number)
    statement.close()
    with contextlib.suppress(pg8000.native.DatabaseError):
        connection.run("select :x::int", x="nonsense")
    connection.run("start transaction")
    connection.run("insert into orders (customer, sku, amount) values (:c, :s, :n)", c=1, s="CUP-1", n=1)
    connection.run("rollback")
    connection.close()
