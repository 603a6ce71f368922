"""Where a conversation takes place, and the list of all conversations.

A conversation is a function of a `Place` that talks to a real server with real client software and leaves
nothing open. It may assume what `prepare` made and must leave it usable for the next one.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import Flavour, Server

__all__ = [
    "CONVERSATIONS",
    "Conversation",
    "Place",
    "conversation",
    "find_program",
    "key_log",
    "prepare",
    "program",
]

SETUP = """
set client_min_messages = error;
drop schema if exists public cascade;
create schema public authorization app;
grant all on schema public to public;
drop role if exists clerk, temp_worker;
create role clerk nologin;
grant clerk to app, anna;
create table customers (id serial primary key, name text not null, email text unique, balance numeric(12, 2)
default 0,
                        note bytea, created timestamptz default now());
create table products (sku text primary key, title text, price numeric(10, 2), attributes jsonb, tags text[]);
create table orders (id bigserial primary key, customer int references customers, sku text references
products,
                     amount int, placed timestamptz default now());
create table old_prices (sku text, price numeric, until date);
insert into customers (name, email, balance)
  select 'Customer ' || n, 'customer' || n || '@example.com', n * 3.5 from generate_series(1, 12) n;
insert into products values
  ('TEA-1', 'Green tea', 4.90, '{"origin": "JP"}', '{tea,green}'), ('TEA-2', 'Assam', 5.20, '{}', '{tea}'),
  ('CUP-1', 'Cup, blue', 12.00, null, null);
insert into old_prices select 'TEA-1', n, date '2026-01-01' + n from generate_series(1, 5) n;
alter table customers owner to app; alter table products owner to app; alter table orders owner to app;
alter table old_prices owner to app;
grant all on all tables in schema public to anna, clerk, report, legacy, batch;
grant all on all sequences in schema public to anna, clerk, report, legacy, batch;
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A server as its clients reach it: on `port`, which is a proxy's when one records."""

    server: Server
    port: int

    def dsn(self, user: str = "app", database: str = "shop", **more: str | int) -> str:
        """A libpq connection string; `more` are further keywords."""
        return self.server.dsn(user, database, **{"port": self.port, **more})

    def password(self, user: str) -> str | None:
        """The role's password."""
        return self.server.roles[user].password

    def environment(self, user: str = "app", database: str = "shop", **more: str) -> dict[str, str]:
        """The environment for a libpq program; `more` are further variables."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        kept |= {"PGHOST": self.server.host, "PGPORT": str(self.port), "PGUSER": user, "PGDATABASE": database}
        kept |= {
            "PGSSLMODE": "disable",
            "PGGSSENCMODE": "disable",
            "PGCONNECT_TIMEOUT": "20",
            "LC_ALL": "C.UTF-8",
        }
        kept |= {"PGPASSFILE": os.devnull, "PSQLRC": os.devnull, "TZ": "UTC"}
        password = self.password(user) if user in self.server.roles else "no-such-role"
        return kept | ({"PGPASSWORD": password} if password else {}) | more

    def wait_active(self, text: str, count: int = 1) -> None:
        """Return when `count` clients run a statement that contains `text`."""
        ask = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()"
        ask += f" and query like '%{text}%'"
        limit = time.monotonic() + 20
        while int(self.server.psql(ask)) < count:
            if time.monotonic() > limit:
                raise RuntimeError(f"nobody runs {text}")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation: the function, the server it needs, and what else."""

    name: str
    talk: Callable[[Place], None]
    flavour: Flavour
    needs: Callable[[Place], str | None]
    tls: bool
    about: str

    def unavailable(self, place: Place) -> str | None:
        """Why it cannot be held at this place; None if it can."""
        if self.tls and not place.server.tls:
            return "this server has no TLS"
        return self.needs(place)


CONVERSATIONS: dict[str, Conversation] = {}


def _nothing(_: Place) -> str | None:
    return None


def program(name: str) -> Callable[[Place], str | None]:
    """The need for a program beside the server's or on the path."""

    def needs(place: Place) -> str | None:
        found = (place.server.bin / name).exists() or shutil.which(name) is not None
        return None if found else f"no program {name}"

    return needs


def find_program(place: Place, name: str) -> str:
    """The program's path: the server's own first."""
    own: Path = place.server.bin / name
    return str(own) if own.exists() else name


def conversation(
    flavour: Flavour = "installed", needs: Callable[[Place], str | None] = _nothing, tls: bool = False
) -> Callable[[Callable[[Place], None]], Callable[[Place], None]]:
    """Put the function into CONVERSATIONS by its name; its docstring's first line tells what it shows."""

    def register(talk: Callable[[Place], None]) -> Callable[[Place], None]:
        about = (talk.__doc__ or "").strip().split("\n")[0]
        CONVERSATIONS[talk.__name__] = Conversation(talk.__name__, talk, flavour, needs, tls, about)
        return talk

    return register


def key_log() -> str | None:
    """Where TLS clients write their secrets: the file named by SSLKEYLOGFILE, if any."""
    return os.environ.get("SSLKEYLOGFILE")


def prepare(server: Server, *, bench: bool = False) -> None:
    """Make the shop's tables anew; with `bench` also a database `bench` for pgbench (once)."""
    server.psql(SETUP, "shop")
    server.psql("drop role if exists newcomer; drop role if exists clerk2;")
    if bench and server.psql("select count(*) from pg_database where datname = 'bench'") == "0":
        server.psql("create database bench owner app")
        # pgbench -i -s 1 in SQL: the capture is about what runs on it, not about filling it.
        server.psql(
            """create table pgbench_branches (bid int primary key, bbalance int, filler char(88));
            create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84));
            create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84));
            create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler
            char(22)); insert into pgbench_branches values (1, 0, '');
            insert into pgbench_tellers select n, 1, 0, '' from generate_series(1, 10) n;
            insert into pgbench_accounts select n, 1, 0, '' from generate_series(1, 100000) n;
            grant all on all tables in schema public to app;""",
            "bench",
        )
