"""Real clients, a real server: the audit records say what the server's own log says."""

from collections.abc import Iterator

import pytest

from tests.oracle.compare import Log, differences
from tests.oracle.recording import recording, replayed
from tests.require import require
from tests.support.postgres import Flavour, Server, server_log, unavailable
from tests.support.samples import CONVERSATIONS, prepare

pytestmark = pytest.mark.live

# Passwords in SQL and in login messages of the conversations.
SECRETS = ("hunter2", "S3cr3t-pass", "wrong-password")


class Servers:
    """One server of each flavour, started when first asked for."""

    def __init__(self) -> None:
        self._running: dict[Flavour, Server] = {}

    def get(self, flavour: Flavour) -> Server:
        reason = unavailable(flavour)
        require(reason is None, reason or "")
        if flavour not in self._running:
            self._running[flavour] = Server(flavour)
            prepare(self._running[flavour], bench=flavour == "installed")
        return self._running[flavour]

    def stop(self) -> None:
        for server in self._running.values():
            server.stop()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.stop()


@pytest.mark.parametrize("name", sorted(CONVERSATIONS))
def test_conversation(servers: Servers, name: str) -> None:
    conversation = CONVERSATIONS[name]
    server = servers.get(conversation.flavour)
    before = {entry.session for entry in server_log(server)}
    with recording(server) as made:
        reason = conversation.unavailable(made.place)
        require(reason is None, reason or "")
        conversation.talk(made.place)
    log = Log(server_log(server), server.log_path, before)
    records = replayed(made.frames, made.port)

    assert log.sessions, "the conversation is in the log"
    found = differences(made, records, log)
    assert not found, "\n".join(found)
