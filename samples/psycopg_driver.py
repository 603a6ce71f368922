"""Conversations of psycopg 3, which is libpq underneath."""

import contextlib
import datetime
import decimal
import threading

import psycopg
from psycopg.types.json import Jsonb

from samples.place import Place, conversation, key_log
from samples.values import VALUES

__all__: list[str] = []


@conversation()
def psycopg_extended(place: Place) -> None:
    """psycopg 3: statements with parameters of many types, in text and in binary format."""
    with psycopg.connect(place.dsn(application_name="shop-web"), autocommit=True) as connection:
        for mark in ("%s", "%b", "%t"):
            for kind, value in VALUES:
                with contextlib.suppress(psycopg.ProgrammingError):
                    # Some types have no binary form in the driver.
                    connection.execute(f"select {mark}::{kind}".encode(), (value,)).fetchone()
        connection.execute("select %s::jsonb", (Jsonb({"a": [1, None, "x"]}),))
        connection.execute(
            "insert into customers (name, email, note) values (%s, %s, %b)",
            ("Zoë", "zoe@example.com", b"\0\1\2"),
        )
        connection.execute(
            "update customers set balance = %s where email = %s", (decimal.Decimal("7.25"), "zoe@example.com")
        )
        connection.execute("delete from customers where email = %(email)s", {"email": "zoe@example.com"})
        with contextlib.suppress(psycopg.errors.UniqueViolation):
            connection.execute(
                "insert into customers (name, email) values (%s, %s)", ("X", "customer1@example.com")
            )


@conversation()
def psycopg_prepared(place: Place) -> None:
    """psycopg 3: server-side prepared statements, executed again, closed when the cache is full."""
    with psycopg.connect(place.dsn(application_name="shop-web"), prepare_threshold=0) as connection:
        connection.prepared_max = 3
        for number in range(4):
            connection.execute("select name from customers where id = %s", (number,)).fetchall()
        for number in range(5):
            connection.execute(f"select {number}, %s::text".encode(), (f"value {number}",))
        connection.execute("select name from customers where id = %s", (9,))
        connection.commit()
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into old_prices values (%s, %s, %s)",
                [("TEA-2", decimal.Decimal(n) / 4, datetime.date(2026, 5, n)) for n in range(1, 6)],
            )
        connection.execute("deallocate all")
        connection.rollback()


@conversation()
def mixed_session(place: Place) -> None:
    """psycopg 3: a bit of everything in one session; the hostile captures are made of it."""
    dsn = place.dsn(application_name="shop-web")
    with (
        psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("select id, name from customers where id = %s", (4,))
        cursor.execute("select n, repeat('row ', 12) from generate_series(1, %s) n", (40,))
        values = ", ".join(f"('M-{number}', {number}, null)" for number in range(70))
        cursor.execute(f"insert into old_prices values {values}".encode(), prepare=False)
        with connection.transaction():
            cursor.execute(
                "update customers set balance = balance + %s where id = %s", (decimal.Decimal("1.50"), 4)
            )
            cursor.execute("insert into orders (customer, sku, amount) values (%s, %s, %s)", (4, "TEA-1", 1))
        with contextlib.suppress(psycopg.Error):
            cursor.execute("select * from customers where nonsense = %s", (1,))
        with cursor.copy("copy old_prices (sku, price) from stdin") as copy:
            for number in range(60):
                copy.write_row((f"M-copy-{number}", number))
        with cursor.copy("copy (select * from old_prices where sku like 'M-%') to stdout") as copy:
            for _ in copy:
                pass
        cursor.execute("set application_name to 'shop-web-2'; select 1; select 2", prepare=False)
        for number in range(1, 6):
            cursor.execute("select id, name from customers where id = %s", (number,))
        cursor.execute("delete from old_prices where sku like %s", ("M-%",))
        cursor.execute("select 'last'")


@conversation()
def psycopg_pipeline(place: Place) -> None:
    """psycopg 3: pipeline mode, with an error in the middle that skips what follows to the next Sync."""
    with psycopg.connect(place.dsn(application_name="shop-worker"), autocommit=True) as connection:
        with connection.pipeline():
            for number in range(5):
                connection.execute("insert into old_prices values (%s, %s, null)", (f"P-{number}", number))
        with contextlib.suppress(psycopg.Error), connection.pipeline() as pipeline:
            connection.execute("select 1/%s", (1,))
            connection.execute("select 1/%s", (0,))
            connection.execute("select 'skipped', %s::int", (1,))
            with contextlib.suppress(psycopg.Error):
                pipeline.sync()
            connection.execute("select 'after sync', %s::int", (2,))
        connection.execute("delete from old_prices where sku like 'P-%%' and price >= %s", (0,))


@conversation()
def psycopg_copy(place: Place) -> None:
    """psycopg 3: COPY in (text and binary), COPY out, a COPY in that the client gives up."""
    with (
        psycopg.connect(place.dsn(application_name="shop-import"), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        with cursor.copy("copy old_prices (sku, price) from stdin") as copy:
            for number in range(50):
                copy.write_row((f"C-{number}", number))
        with cursor.copy("copy old_prices (sku, price) from stdin (format binary)") as copy:
            copy.set_types(["text", "numeric"])
            for number in range(20):
                copy.write_row((f"C-{number}", decimal.Decimal(number)))
        with (
            contextlib.suppress(psycopg.Error, ZeroDivisionError),
            cursor.copy("copy old_prices (sku) from stdin") as copy,
        ):
            copy.write_row(("C-given-up",))
            raise ZeroDivisionError
        with cursor.copy("copy (select sku, price from old_prices where sku like 'C-%') to stdout") as copy:
            for _ in copy.rows():
                pass
        cursor.execute("delete from old_prices where sku like 'C-%'")


@conversation()
def psycopg_cursor(place: Place) -> None:
    """psycopg 3: server-side cursors (DECLARE, FETCH, CLOSE), scrolling, WITH HOLD."""
    with psycopg.connect(place.dsn(application_name="shop-report")) as connection:
        with connection.cursor("walk") as cursor:
            cursor.itersize = 5
            cursor.execute("select id, name from customers where id > %s order by id", (0,))
            for _ in cursor:
                pass
        with connection.cursor("scroll", scrollable=True, withhold=True) as cursor:
            cursor.execute("select generate_series(1, 10)")
            connection.commit()
            cursor.fetchmany(3)
            cursor.scroll(-2)
            cursor.fetchone()


@conversation()
def psycopg_cancel(place: Place) -> None:
    """psycopg 3: a statement that runs and is cancelled over a connection of its own."""
    with psycopg.connect(place.dsn(application_name="shop-report"), autocommit=True) as connection:

        def cancel() -> None:
            place.wait_active("select pg_sleep(60)")
            connection.cancel_safe(timeout=20)

        thread = threading.Thread(target=cancel)
        thread.start()
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(60)")
        thread.join()
        connection.execute("select 'still here'")


@conversation()
def psycopg_notify(place: Place) -> None:
    """psycopg 3: LISTEN and NOTIFY between two connections, notices from the server."""
    with (
        psycopg.connect(place.dsn(application_name="listener"), autocommit=True) as listener,
        psycopg.connect(place.dsn("anna", application_name="notifier"), autocommit=True) as notifier,
    ):
        listener.execute("listen orders")
        notifier.execute("notify orders, 'order 1'")
        notifier.execute("select pg_notify(%s, %s)", ("orders", "order 2"))
        for _ in listener.notifies(timeout=20, stop_after=2):
            pass
        listener.execute("unlisten *")
        notifier.execute("do $$ begin raise warning 'low stock: %', 3; end $$")


@conversation()
def psycopg_transactions(place: Place) -> None:
    """psycopg 3: nested transactions (savepoints), errors inside, SET ROLE, a session the server kills."""
    with psycopg.connect(place.dsn("anna", application_name="backoffice")) as connection:
        with connection.transaction():
            connection.execute(
                "insert into orders (customer, sku, amount) values (%s, %s, %s)", (1, "TEA-1", 3)
            )
            with contextlib.suppress(psycopg.Error), connection.transaction():
                connection.execute(
                    "insert into orders (customer, sku, amount) values (%s, %s, %s)", (999, "TEA-1", 3)
                )
        connection.execute("set role clerk")
        connection.execute("select count(*) from orders")
        connection.commit()
        connection.execute("set local role none")
        connection.rollback()
        connection.execute("reset role")
        connection.commit()
        with contextlib.suppress(psycopg.Error):
            connection.execute("select %s::int", ("not a number",))
        with contextlib.suppress(psycopg.Error):
            connection.execute("select 1")
        connection.rollback()
        with contextlib.suppress(psycopg.OperationalError):
            connection.execute("select pg_terminate_backend(pg_backend_pid())")


@conversation(flavour="embedded")
def protocol_3_2(place: Place) -> None:
    """Protocol 3.2 (PostgreSQL 18): a cancel key of 32 bytes, used to cancel a statement."""
    dsn = place.dsn(application_name="v3.2", min_protocol_version="3.2", max_protocol_version="3.2")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select %s::text", ("three point two",))

        def cancel() -> None:
            place.wait_active("select pg_sleep(61)")
            connection.cancel_safe(timeout=20)

        thread = threading.Thread(target=cancel)
        thread.start()
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(61)")
        thread.join()


@conversation()
def protocol_negotiated(place: Place) -> None:
    """A client that asks an older server for protocol 3.2 and is told 3.0 by NegotiateProtocolVersion."""
    dsn = place.dsn(application_name="downgraded", max_protocol_version="latest")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select 'down to 3.0'")


@conversation(tls=True)
def tls_session(place: Place) -> None:
    """psycopg 3 with sslmode=require: login and statements that nobody beside the wire can read."""
    more = {"sslmode": "require", "application_name": "shop-secure"}
    if log := key_log():
        more["sslkeylogfile"] = log
    with psycopg.connect(place.dsn(**more), autocommit=True) as connection:
        connection.execute("select name from customers where id = %s", (1,)).fetchall()
        connection.execute("update customers set balance = 0 where id = %s", (2,))
