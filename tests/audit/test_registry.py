"""Cancellation keys: which session of which server they mean, and how many are kept."""

from mirror_audit.audit.identity import Identity
from mirror_audit.audit.registry import SessionRegistry
from mirror_audit.counters import Counters
from mirror_audit.packet.flow import Flow, Network


def flow(server: bytes = b"\x0a\0\0\x02", network: str = "default", port: int = 40000) -> Flow:
    one = Flow(Network(network), -1, 0, False)
    one.client_address, one.client_port = b"\x0a\0\0\x01", port
    one.server_address, one.server_port = server, 5432
    return one


def test_found_by_key_server_and_network() -> None:
    registry = SessionRegistry(10, Counters())
    identity = Identity(flow())
    registry.add(flow(), b"key", identity)

    assert registry.find(flow(port=40001), b"key") is identity, "a cancel request has a connection of its own"
    assert registry.find(flow(), b"kez") is None
    assert registry.find(flow(server=b"\x0a\0\0\x03"), b"key") is None
    assert registry.find(flow(network="vni-7"), b"key") is None


def test_removed_by_its_own_session_only() -> None:
    registry = SessionRegistry(10, Counters())
    old, new = Identity(flow()), Identity(flow(port=40001))
    registry.add(flow(), b"key", old)
    registry.add(flow(), b"key", new)

    registry.remove(flow(), b"key", old)
    assert registry.find(flow(), b"key") is new
    registry.remove(flow(), b"key", new)
    assert registry.find(flow(), b"key") is None
    registry.remove(flow(), b"key", new)


def test_bounded() -> None:
    counters = Counters()
    registry = SessionRegistry(3, counters)
    for number in range(5):
        registry.add(flow(), b"key%d" % number, Identity(flow()))

    assert len(registry.sessions) == 3
    assert registry.find(flow(), b"key1") is None
    assert registry.find(flow(), b"key4") is not None
    assert counters.cancel_keys_evicted == 2
