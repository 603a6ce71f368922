"""Who a session is: the part of the envelope that all its records share."""

import json

import pytest

from mirror_audit.audit.identity import Identity
from mirror_audit.packet.flow import Flow, Network
from tests.audit.conversation import SELECTED, records
from tests.support.pgmsg import login, query, ready, startup
from tests.support.wrap import TcpTrace


def flow(network: str = "default", time: int = 1_790_000_000_000_000, vni: int = -1) -> Flow:
    one = Flow(Network(network), vni, time, False)
    one.client_address, one.client_port = b"\x0a\0\0\x01", 40000
    one.server_address, one.server_port = b"\x0a\0\0\x02", 5432
    return one


def members(identity: Identity) -> dict[str, object]:
    found = json.loads(b"{" + identity.json() + b"}")
    assert isinstance(found, dict)
    return found


def test_members() -> None:
    identity = Identity(flow("vni-7", vni=7))
    identity.user = b'a "quoted" \xff name'
    identity.process_id = 77

    found = members(identity)
    assert found["session_id"] == identity.session_id.decode()
    del found["session_id"], found["user"]
    assert found == {
        "network": "vni-7",
        "vni": 7,
        "client_address": "10.0.0.1",
        "client_port": 40000,
        "server_address": "10.0.0.2",
        "server_port": 5432,
        "proxy_address": None,
        "proxy_port": None,
        "database": None,
        "application_name": None,
        "server_version": None,
        "backend_pid": 77,
    }


def test_changes_are_seen() -> None:
    identity = Identity(flow())
    assert members(identity)["user"] is None

    identity.user = b"app"
    identity.changed()
    assert members(identity)["user"] == "app"


def test_proxied() -> None:
    identity = Identity(flow())
    members(identity)
    identity.proxied(bytes(15) + b"\x01", 1234)
    found = members(identity)

    assert (found["client_address"], found["client_port"]) == ("::1", 1234)
    assert (found["proxy_address"], found["proxy_port"]) == ("10.0.0.1", 40000)
    assert found["session_id"] == Identity(flow()).session_id.decode()


def test_session_ids_tell_apart() -> None:
    sessions = [flow(), flow("other"), flow(time=1_790_000_000_000_001), flow(time=0), flow(time=1)]

    assert len({Identity(one).session_id for one in sessions}) == len(sessions)
    assert Identity(flow()).session_id == Identity(flow()).session_id
    assert Identity(flow()).client_hash != Identity(flow()).server_hash


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.9 10.0.2.20 4321 5432\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes([192, 0, 2, 9, 10, 0, 2, 20, 16, 225, 21, 56]),
    ],
)
def test_proxy_header(header: bytes) -> None:
    trace = TcpTrace()
    trace.open()
    trace.client(header + startup("app", "shop"))
    trace.server(login())
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())

    for one in records(trace):
        assert (one["client_address"], one["client_port"]) == ("192.0.2.9", 4321)
        assert (one["proxy_address"], one["proxy_port"]) == ("10.0.1.10", 40000)
        assert one["user"] == "app"
