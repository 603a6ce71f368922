"""Conversations of the programs that come with PostgreSQL: psql, pgbench, pg_receivewal, pg_recvlogical."""

import subprocess
import tempfile
from pathlib import Path

from samples.place import Place, conversation, find_program, program

__all__: list[str] = []


def _run(
    place: Place,
    name: str,
    *arguments: str,
    user: str = "app",
    database: str = "shop",
    script: str | None = None,
    ok: bool = True,
    **environment: str,
) -> str:
    # Output of \copy in binary format is no text.
    done = subprocess.run(
        [find_program(place, name), *arguments],
        input=script,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env=place.environment(user, database, **environment),
        timeout=120,
    )
    if ok and done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    return done.stdout


@conversation()
def psql_simple(place: Place) -> None:
    """psql: single and multiple statements in one query, notices, empty queries, errors."""
    script = r"""select id, name, balance from customers where balance > 30 order by id;
update customers set balance = balance + 10 where id = 3 returning id, balance;
select 1 as one \; select 2 as two, 'zwei' as zwei \; insert into orders (customer, sku, amount) values (1,
'TEA-1', 2); ;
-- only a comment
/* app='shop' */ select count(*) from orders;
select * from no_such_table;
selec 1;
select 1 \; select 1/0 \; select 2;
do $$ begin raise notice 'counted % customers', (select count(*) from customers); end $$;
create temporary table basket (sku text, amount int);
drop table if exists never_there;
truncate basket;
explain (costs off) select * from products;
show search_path;
"""
    _run(place, "psql", "-X", "-q", script=script, PGAPPNAME="psql")


@conversation()
def psql_transactions(place: Place) -> None:
    """psql: transactions, savepoints, a failed one, two-phase commit, SET ROLE, SET search_path."""
    script = r"""begin;
insert into orders (customer, sku, amount) values (2, 'TEA-2', 1);
savepoint before_error;
insert into orders (customer, sku, amount) values (2, 'NOPE', 1);
select 1;
rollback to savepoint before_error;
insert into orders (customer, sku, amount) values (2, 'CUP-1', 1);
commit;
begin isolation level serializable read only;
select count(*) from orders;
rollback;
begin;
delete from old_prices where price > 100;
select nonsense;
commit;
begin \; select 1 \; rollback and chain \; select 2 \; commit;
begin;
insert into orders (customer, sku, amount) values (3, 'CUP-1', 4);
prepare transaction 'order-3';
commit prepared 'order-3';
set role clerk;
select current_user, session_user;
reset role;
set search_path to pg_temp, public;
set local statement_timeout = 1000;
select set_config('search_path', 'public', false);
discard all;
"""
    _run(place, "psql", "-X", "-q", script=script, user="anna", PGAPPNAME="psql")


@conversation()
def psql_copy(place: Place) -> None:
    r"""psql: \copy in and out, COPY with an error in the data, COPY of nothing, COPY of a query."""
    script = r"""\copy products (sku, title, price) from stdin csv
TEA-3,Darjeeling,6.10
TEA-4,"Earl Grey, strong",5.80
CUP-2,Cup "red",11.00
\.
\copy (select sku, title, price from products order by sku) to stdout csv header
copy customers (id, name, email) to stdout;
\copy products (sku, price) from stdin
TEA-9	not a number
\.
copy (select 1 where false) to stdout (format binary);
copy old_prices to stdout (format binary);
delete from products where sku in ('TEA-3', 'TEA-4', 'CUP-2');
"""
    _run(place, "psql", "-X", "-q", script=script, PGAPPNAME="psql")


@conversation()
def psql_prepare(place: Place) -> None:
    """psql: PREPARE, EXECUTE and DEALLOCATE as SQL, DECLARE and FETCH, \\gdesc."""
    script = r"""prepare by_name (text, int) as select * from customers where name = $1 and id > $2;
execute by_name('Customer 4', 0);
execute by_name('Customer 5', 2);
deallocate by_name;
execute by_name('Customer 6', 0);
begin;
declare walk cursor for select id, name from customers order by id;
fetch 2 from walk;
fetch forward 3 from walk;
move 1 in walk;
close walk;
commit;
select id, price from customers, products \gdesc
"""
    if place.server.version >= 16:
        script += "select $1::int + $2::int \\bind 20 22 \\g\n"
    _run(place, "psql", "-X", "-q", script=script, PGAPPNAME="psql")


@conversation()
def psql_dba(place: Place) -> None:
    """psql: roles, passwords in clear text in the statement, grants, DDL of a database administrator."""
    script = r"""create role temp_worker login password 'hunter2' valid until '2027-01-01';
alter role temp_worker with encrypted password 'S3cr3t-pass';
grant select, update on customers to temp_worker;
grant clerk to temp_worker;
revoke all on customers from temp_worker;
alter table customers add column vip boolean default false;
create index on customers (email);
create view vips as select * from customers where vip;
create or replace function add_vat(price numeric) returns numeric language sql as 'select price * 1.19';
select add_vat(100);
call no_such_procedure(1);
comment on table customers is 'people who buy';
drop view vips;
drop function add_vat;
alter table customers drop column vip;
vacuum old_prices;
drop owned by temp_worker;
drop role temp_worker;
"""
    _run(place, "psql", "-X", "-q", script=script, user="dba", PGAPPNAME="psql")


@conversation()
def psql_large(place: Place) -> None:
    """psql: a statement and a row of many segments, text of many scripts."""
    values = ", ".join(f"({number}, '{'padding ' * 6}{number}')" for number in range(180))
    script = f"""select count(*) from (values {values}) as v (n, t);
select repeat('x', 9000);
select 'Grüße, 世界, здравствуй, \U0001f375 שלום' as greeting;
select E'tab\\there', e'line\\nbreak', U&'\\0041';
set client_encoding to latin1;
select 'caf\N{LATIN SMALL LETTER E WITH ACUTE}';
"""
    _run(place, "psql", "-X", "-q", script=script, PGAPPNAME="psql")


@conversation(flavour="embedded")
def psql_bind_18(place: Place) -> None:
    r"""psql 18: \bind, \parse, \bind_named, \close_prepared and pipelines with an error inside."""
    script = r"""select $1::int + $2::int as sum \bind 20 22 \g
select name from customers where id = $1 \parse by_id
\bind_named by_id 3 \g
\bind_named by_id 4 \g
\close_prepared by_id
\startpipeline
select $1::text \bind one \sendpipeline
select $1::int \bind nonsense \sendpipeline
select $1::text \bind skipped \sendpipeline
\syncpipeline
select $1::text \bind two \sendpipeline
\endpipeline
"""
    _run(place, "psql", "-X", "-q", script=script, PGAPPNAME="psql")


@conversation()
def login_failures(place: Place) -> None:
    """Failed logins: wrong password (SCRAM, MD5, clear text), no such role, no such database, no password."""
    ask = ("-X", "-q", "-w", "-c", "select 1")
    for user in ("app", "report", "legacy"):
        _run(place, "psql", *ask, user=user, ok=False, PGPASSWORD="wrong-password")
    _run(place, "psql", *ask, user="mallory", ok=False)
    _run(place, "psql", *ask, database="no_such_database", ok=False)
    _run(place, "psql", *ask, ok=False, PGPASSWORD="")


@conversation()
def logins(place: Place) -> None:
    """Successful logins by trust, clear text, MD5 and SCRAM, with options in the startup message."""
    for user in ("batch", "legacy", "report", "app"):
        _run(place, "psql", "-X", "-q", "-c", "select current_user", user=user, PGAPPNAME=f"login of {user}")
    options = "-c search_path=public,pg_catalog -c statement_timeout=5s"
    _run(place, "psql", "-X", "-q", "-c", "show search_path", PGOPTIONS=options, PGCLIENTENCODING="LATIN1")


def _pgbench(place: Place, mode: str, *more: str) -> None:
    arguments = ["-n", "-c", "2", "-j", "1", "-t", "3", "-M", mode, *more]
    _run(place, "pgbench", *arguments, database="bench", PGAPPNAME="pgbench")


@conversation(needs=program("pgbench"))
def pgbench_simple(place: Place) -> None:
    """pgbench -M simple: TPC-B over two connections at once."""
    _pgbench(place, "simple")


@conversation(needs=program("pgbench"))
def pgbench_extended(place: Place) -> None:
    """pgbench -M extended: each statement parsed, bound and executed anew."""
    _pgbench(place, "extended")


@conversation(needs=program("pgbench"))
def pgbench_prepared(place: Place) -> None:
    """pgbench -M prepared: statements parsed once, then bound by name."""
    _pgbench(place, "prepared")


@conversation(needs=program("pgbench"))
def pgbench_pipeline(place: Place) -> None:
    r"""pgbench with \startpipeline: several statements in flight."""
    text = r"""\set aid random(1, 100000)
\startpipeline
select abalance from pgbench_accounts where aid = :aid;
update pgbench_accounts set abalance = abalance + 1 where aid = :aid;
select 1;
\endpipeline
"""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(text)
        file.flush()
        _pgbench(place, "prepared", "-f", file.name)


@conversation(needs=program("pg_receivewal"))
def replication_physical(place: Place) -> None:
    """pg_receivewal: IDENTIFY_SYSTEM, START_REPLICATION and a few kB of WAL."""
    with tempfile.TemporaryDirectory() as directory:
        # Streaming starts with a segment: a new one keeps it short.
        place.server.psql(
            "select pg_switch_wal(); insert into old_prices values ('TEA-1', 9, '2026-02-02')", "shop"
        )
        end = place.server.psql("select pg_current_wal_lsn()")
        arguments = ("-D", directory, "--no-loop", "--no-sync", f"--endpos={end}")
        _run(place, "pg_receivewal", *arguments, user="repl", PGAPPNAME="pg_receivewal")


@conversation(needs=program("pg_recvlogical"))
def replication_logical(place: Place) -> None:
    """pg_recvlogical with test_decoding: create a slot, stream a transaction, drop the slot."""
    common = ("-d", "shop", "--slot=shop_changes")
    _run(place, "pg_recvlogical", *common, "--create-slot", "--plugin=test_decoding", user="repl")
    place.server.psql(
        "insert into old_prices values ('CUP-1', 3, '2026-03-03'), ('CUP-1', 4, '2026-03-04')", "shop"
    )
    end = place.server.psql("select pg_current_wal_lsn()")
    with tempfile.TemporaryDirectory() as directory:
        out = str(Path(directory) / "changes")
        arguments = ("--start", "-f", out, f"--endpos={end}", "--no-loop")
        _run(place, "pg_recvlogical", *common, *arguments, user="repl")
    _run(place, "pg_recvlogical", *common, "--drop-slot", user="repl")


@conversation(flavour="embedded")
def tls_refused(place: Place) -> None:
    """psql with sslmode=prefer against a server without TLS: SSLRequest is answered N, the login goes on."""
    _run(place, "psql", "-X", "-q", "-c", "select 'in clear'", PGSSLMODE="prefer", PGAPPNAME="psql")
