"""Real clients, a real server: the audit records say what the server's own log says."""

import copy
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from mirror_audit.config import Redact
from tests.oracle.compare import Log, differences
from tests.oracle.conversation import PECULIAR, talk_raw
from tests.oracle.drivers import Seen, talk_asyncpg, talk_psycopg
from tests.oracle.raw import RawClient, disagreements
from tests.oracle.recording import Record, Recording, recording, replayed, written
from tests.require import require
from tests.support.postgres import Flavour, Server, server_log, unavailable
from tests.support.samples import CONVERSATIONS, prepare

pytestmark = pytest.mark.live

# Passwords that stand in SQL or in login messages of the conversations, beside those of the roles.
SECRETS = ("hunter2", "S3cr3t-pass", "wrong-password")
RAW_SESSIONS = 3
RAW_STEPS = 70
DRIVER_STEPS = 25


class Servers:
    """One server of each flavour, started when first asked for."""

    def __init__(self) -> None:
        self._running: dict[Flavour, Server] = {}

    def get(self, flavour: Flavour) -> Server:
        reason = unavailable(flavour)
        require(reason is None, reason or "")
        if flavour not in self._running:
            server = self._running[flavour] = Server(flavour)
            prepare(server, bench=flavour == "installed")
            server.psql("grant clerk to batch")
        return self._running[flavour]

    def stop(self) -> None:
        for server in self._running.values():
            server.stop()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.stop()


def _sessions(server: Server) -> set[str]:
    return {entry.session for entry in server_log(server)}


def _hold(servers: Servers, name: str) -> tuple[Recording, Log]:
    """Hold a conversation: what was recorded of it, and what the server logged."""
    conversation = CONVERSATIONS[name]
    server = servers.get(conversation.flavour)
    before = _sessions(server)
    with recording(server) as made:
        reason = conversation.unavailable(made.place)
        require(reason is None, reason or "")
        conversation.talk(made.place)
    return made, Log(server_log(server), server.log_path, before)


def _of(records: list[Record], pid: int) -> list[Record]:
    return [record for record in records if record["kind"] == "statement" and record["backend_pid"] == pid]


@pytest.mark.parametrize("name", sorted(CONVERSATIONS))
def test_conversation(servers: Servers, name: str) -> None:
    made, log = _hold(servers, name)
    records = replayed(made.frames, made.port)

    assert log.sessions, "the conversation is in the log"
    found = differences(made, records, log)
    assert not found, "\n".join(found)
    incomplete = [
        r for r in records if r["kind"] == "statement" and not r["statement"]["coverage"]["complete"]
    ]
    assert not incomplete, "all of it was captured"


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("flavour", ["installed", "embedded"])
def test_random_sessions(servers: Servers, flavour: Flavour, seed: int) -> None:
    server = servers.get(flavour)
    before = _sessions(server)
    found: list[str] = []
    drivers: list[Future[tuple[int, Seen]]] = []
    with recording(server) as made, ThreadPoolExecutor(RAW_SESSIONS + 2) as pool:
        clients = [RawClient(made.place.port, program=f"raw {n}") for n in range(RAW_SESSIONS)]
        talks = [
            pool.submit(talk_raw, client, seed * 100 + number, RAW_STEPS, server.version)
            for number, client in enumerate(clients)
        ]
        drivers += [
            pool.submit(talk, made.place, seed, DRIVER_STEPS) for talk in (talk_psycopg, talk_asyncpg)
        ]
        for talk in talks:
            talk.result()
        seen = [driver.result() for driver in drivers]
    log = Log(server_log(server), server.log_path, before)
    records = replayed(made.frames, made.port)

    found += differences(made, records, log)
    for client in clients:
        found += disagreements(client.answers, _of(records, client.pid))
    for pid, saw in seen:
        found += saw.disagreements(_of(records, pid))
    assert not found, "\n".join(found)
    assert len(log.sessions) == RAW_SESSIONS + 2
    outcomes = {record["statement"]["outcome"] for record in records if record["kind"] == "statement"}
    assert outcomes == {"ok", "error", "suspended", "skipped"}, "the conversations have everything in them"
    assert sum(record["kind"] == "statement" for record in records) > 400


@pytest.mark.parametrize("flavour", ["installed", "embedded"])
@pytest.mark.parametrize("name", sorted(PECULIAR))
def test_peculiar_session(servers: Servers, flavour: Flavour, name: str) -> None:
    server = servers.get(flavour)
    before = _sessions(server)
    with recording(server) as made:
        client = RawClient(made.place.port)
        PECULIAR[name](client)
        client.close()
    log = Log(server_log(server), server.log_path, before)
    records = replayed(made.frames, made.port)

    found = differences(made, records, log) + disagreements(client.answers, _of(records, client.pid))
    assert not found, "\n".join(found)
    if name == "failed_batches":
        told = [record["statement"] for record in _of(records, client.pid)]
        assert [one["outcome"] for one in told].count("skipped") == 4
        assert all(one["text"] and one["parameters"] for one in told)


def test_a_difference_is_found(servers: Servers) -> None:
    """The comparison itself: each record that is left out, told twice or changed is noticed."""
    made, log = _hold(servers, "psql_transactions")
    records = replayed(made.frames, made.port)
    assert differences(made, records, log) == []

    changes = {
        "text": "select 'another'",
        "outcome": "unknown",
        "sqlstate": "XX000",
        "transaction": 99,
    }
    for number, record in enumerate(records):
        kind = record["kind"]
        if kind == "statement" and record["statement"]["outcome"] == "skipped":
            continue
        rest = records[number + 1 :]
        assert differences(made, records[:number] + rest, log), f"left out: {record}"
        assert differences(made, [*records[:number], record, *records[number:]], log), f"twice: {record}"
        if kind != "statement":
            continue
        for name in ("user", "database", "application_name", "backend_pid"):
            changed = record | {name: 99 if name == "backend_pid" else "another"}
            assert differences(made, [*records[:number], changed, *rest], log), f"another {name}: {record}"
        for name, value in changes.items():
            if name != "sqlstate" or record["statement"]["outcome"] == "error":
                changed = copy.deepcopy(record)
                changed["statement"][name] = value
                assert differences(made, [*records[:number], changed, *rest], log), f"{name}: {record}"


@pytest.mark.parametrize("redact", ["secrets", "values"])
@pytest.mark.parametrize("name", ["login_failures", "logins", "psql_dba", "mixed_session"])
def test_no_password_is_told(servers: Servers, name: str, redact: Redact) -> None:
    made, _ = _hold(servers, name)
    passwords = {role.password for role in made.place.server.roles.values() if role.password} | {*SECRETS}
    sent = b"".join(frame.bytes for frame in made.frames)
    whole = written(made.frames, made.port)
    told = written(made.frames, made.port, redact)

    for password in passwords:
        for form in (password.encode(), password.encode().hex().encode()):
            assert form not in told
    if name == "psql_dba":
        assert b"hunter2" in whole, "without redaction it would be told"
    if name == "login_failures":
        assert b"wrong-password" in sent, "one login sends it in clear text"
        assert b"wrong-password" not in whole, "a password message is never told"
    kinds = [[json.loads(line)["kind"] for line in text.splitlines()] for text in (whole, told)]
    assert kinds[0] == kinds[1], "redaction takes no record away"
