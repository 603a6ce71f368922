"""Whose rights a statement had: `effective_role`, and the search_path it ran with."""

import pytest

from mirror_audit.audit.settings_state import option_value
from tests.audit.conversation import SELECTED, Turn, done, opened, records, talk
from tests.support.pgmsg import (
    bind,
    bind_complete,
    command_complete,
    data_row,
    error,
    execute,
    login,
    parameter_status,
    parse,
    parse_complete,
    query,
    ready,
    sync,
)

SELECT: Turn = (query("select 1"), SELECTED + ready())
BEGIN: Turn = (query("begin"), done("BEGIN", status="T"))


def sets(text: str, tag: str = "SET", status: str = "I") -> Turn:
    return (query(text), done(tag, status=status))


def config(local: str) -> bytes:
    return parse(f"select set_config('role', $1, {local})") + bind(["admin"]) + execute() + sync()


def configured(status: str = "I") -> bytes:
    return parse_complete() + bind_complete() + data_row("admin") + done("SELECT 1", status=status)


CASES: dict[str, tuple[list[Turn], str | None]] = {
    "nothing set": ([], "app"),
    "SET ROLE": ([sets("set role admin")], "admin"),
    "SET ROLE NONE": ([sets("set role admin"), sets("set role none")], "app"),
    "RESET ROLE": ([sets("set role admin"), sets("reset role", "RESET")], "app"),
    "RESET ALL leaves it": ([sets("set role admin"), sets("reset all", "RESET")], "admin"),
    "DISCARD ALL": ([sets("set role admin"), sets("discard all", "DISCARD ALL")], "app"),
    "SET SESSION AUTHORIZATION": ([sets("set session authorization other")], "other"),
    "... which ends the role": ([sets("set role admin"), sets("set session authorization other")], "other"),
    "a role on top of it": ([sets("set session authorization other"), sets("set role admin")], "admin"),
    "an error sets nothing": ([(query("set role admin"), error("denied", "42501") + ready())], "app"),
    "undone with its Query": (
        [(query("set role admin; select 1/0"), command_complete("SET") + error("zero", "22012") + ready())],
        "app",
    ),
    "rolled back": ([BEGIN, sets("set role admin", status="T"), sets("rollback", "ROLLBACK")], "app"),
    "committed": ([BEGIN, sets("set role admin", status="T"), sets("commit", "COMMIT")], "admin"),
    "SET LOCAL in a block": ([BEGIN, sets("set local role admin", status="T")], "admin"),
    "SET LOCAL behind it": (
        [BEGIN, sets("set local role admin", status="T"), sets("commit", "COMMIT")],
        "app",
    ),
    "back to a savepoint": (
        [
            BEGIN,
            sets("set role admin", status="T"),
            sets("savepoint a", "SAVEPOINT", "T"),
            sets("set role other", status="T"),
            sets("rollback to a", "ROLLBACK", "T"),
        ],
        "admin",
    ),
    "a released savepoint": (
        [
            BEGIN,
            sets("savepoint a", "SAVEPOINT", "T"),
            sets("set role other", status="T"),
            sets("release a", "RELEASE", "T"),
            sets("commit", "COMMIT"),
        ],
        "other",
    ),
    "set_config with a bound value": ([(config("false"), configured())], "admin"),
    "... only for its transaction": ([(config("true"), configured())], "app"),
    "... in a block": ([BEGIN, (config("true"), configured("T"))], "admin"),
    "set_config of a value that is not told": (
        [(query("select set_config('role', current_setting('x'), false)"), SELECTED + ready())],
        None,
    ),
    "set_config of a name that is not told": (
        [(query("select set_config('ro' || 'le', 'admin', false)"), SELECTED + ready())],
        None,
    ),
    "reported by the server": (
        [
            (
                query("select f()"),
                parameter_status("session_authorization", "x") + SELECTED + ready(),
            )
        ],
        "x",
    ),
}


@pytest.mark.parametrize(("turns", "role"), CASES.values(), ids=CASES)
def test_effective_role(turns: list[Turn], role: str | None) -> None:
    status = turns[-1][1][-1:].decode() if turns else "I"
    found = records(talk(*turns, (query("select 1"), SELECTED + ready(status))))

    assert found.columns("effective_role")[-1] == role
    assert found.columns("effective_role")[:1] in ([role], ["app"])


def test_role_of_the_startup_packet() -> None:
    trace = opened(options="-c role=admin -c search_path=a\\ b")
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())
    (body,) = records(trace).statements

    assert (body["effective_role"], body["search_path"]) == ("admin", "a b")


def test_search_path() -> None:
    trace = opened(
        greeting=login().removesuffix(ready()) + parameter_status("search_path", "public") + ready()
    )
    for text in ("select 1", "set search_path to a, b", "select 2", "discard all"):
        trace.client(query(text))
        trace.server(SELECTED + ready() if text.startswith("select") else done(text.split()[0].upper()))
    paths = records(trace).columns("search_path")

    assert (paths[0], paths[2]) == ("public", "a, b")


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (b"", None),
        (b"-c role=x", b"x"),
        (b"-crole=x", b"x"),
        (b"--role=x", b"x"),
        (b"-c role=x --role=y", b"y"),
        (b"-c ROLE=x", b"x"),
        (b"-c roles=x", None),
        (b"-c role=a\\ b\\\\c", b"a b\\c"),
    ],
)
def test_option_value(options: bytes, value: bytes | None) -> None:
    assert option_value(options, b"role") == value
