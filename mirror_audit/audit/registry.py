"""Which session a cancellation key belongs to, across all connections. Bounded; keys are digests."""

from mypy_extensions import i64

from mirror_audit.audit.identity import Identity
from mirror_audit.counters import Counters
from mirror_audit.packet.flow import Flow

__all__ = ["SessionRegistry"]


class SessionRegistry:
    """Finds the session that a CancelRequest aims at."""

    def __init__(self, max_keys: i64, counters: Counters) -> None:
        self.max_keys: i64 = max_keys
        self.counters = counters
        self.sessions: dict[bytes, Identity] = {}

    def _key(self, flow: Flow, digest: bytes) -> bytes:
        return digest + flow.server_address + flow.network.name.encode()

    def add(self, flow: Flow, digest: bytes, identity: Identity) -> None:
        """A session was given this key."""
        if len(self.sessions) >= self.max_keys:
            del self.sessions[next(iter(self.sessions))]
            self.counters.cancel_keys_evicted += 1
        self.sessions[self._key(flow, digest)] = identity

    def find(self, flow: Flow, digest: bytes) -> Identity | None:
        """The session with this key on the same server."""
        return self.sessions.get(self._key(flow, digest))

    def remove(self, flow: Flow, digest: bytes, identity: Identity) -> None:
        """That session is over."""
        key = self._key(flow, digest)
        if self.sessions.get(key) is identity:
            del self.sessions[key]
