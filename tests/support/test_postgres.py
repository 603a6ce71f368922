"""The servers and their log are what tests/support/postgres.py says."""

import psycopg
import pytest

from tests.require import require
from tests.support.postgres import Flavour, Server, running, server_log, unavailable
from tests.support.serverlog import parse_parameters


@pytest.mark.parametrize(
    ("detail", "values"),
    [
        ("parameters: $1 = 'x'", ("x",)),
        ("Parameters: $1 = 'it''s, $2 = ''', $2 = NULL, $3 = ''", ("it's, $2 = '", None, "")),
        ("Parameters: $1 = 'a\nb'", ("a\nb",)),
        ("other", None),
        ("", None),
    ],
)
def test_parameters(detail: str, values: tuple[str | None, ...] | None) -> None:
    assert parse_parameters(detail) == values


def _talk(server: Server) -> None:
    with psycopg.connect(server.dsn("app", application_name="talk"), autocommit=True) as connection:
        connection.execute("select 1;select 2")
        connection.execute("select %s::int, %s", (7, None))
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("select * from nowhere")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(server.dsn("app", password="wrong"))


@pytest.mark.live
@pytest.mark.parametrize("flavour", ["installed", "embedded"])
def test_server_and_log(flavour: Flavour) -> None:
    reason = unavailable(flavour)
    require(not reason, str(reason))
    with running(flavour) as server:
        _talk(server)
        log = server_log(server)
    statements = [
        (e.how, e.text, e.parameters, e.user, e.application_name) for e in log if e.kind == "statement"
    ]
    assert statements == [
        ("statement", "select 1;select 2", None, "app", "talk"),
        ("execute", "select $1::int, $2", ("7", None), "app", "talk"),
        ("statement", "select * from nowhere", None, "app", "talk"),
    ]
    failures = [(e.sqlstate, e.text) for e in log if e.kind == "error"]
    assert failures == [("42P01", "select * from nowhere")]
    assert [e.sqlstate for e in log if e.kind == "failed"] == ["28P01"]
    assert [e.kind for e in log if e.kind in {"connected", "disconnected"}] == ["connected", "disconnected"]
    assert not server.directory.exists()
