"""A decapsulator with a recording end, and frames of every link type."""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from mirror_audit.config import Limits
from mirror_audit.counters import Counters
from mirror_audit.packet.decap import Decapsulator
from mirror_audit.packet.flows import FlowTable
from tests.packet.wire import START, Factory, flow_limits
from tests.support.packets import ethernet

__all__ = ["CLIENT", "CLIENT6", "SERVER", "SERVER6", "Probe", "at", "linked"]

CLIENT: Final = ("10.0.1.10", 40000)
SERVER: Final = ("10.0.2.20", 5432)
CLIENT6: Final = ("fd00:1::10", 40000)
SERVER6: Final = ("fd00:2::20", 5432)


class Probe:
    """Takes frames, each in the middle of a larger buffer, and says what became of them."""

    def __init__(
        self,
        *,
        vxlan_ports: tuple[int, ...] = (4789,),
        geneve_ports: tuple[int, ...] = (6081,),
        networks: Mapping[int, str] | None = None,
        **limits: int,
    ) -> None:
        self.counters = Counters()
        self.factory = Factory()
        bounds = Limits(**limits)
        self.table = FlowTable(self.factory, flow_limits(**limits), (5432,), False, self.counters)
        self.decap = Decapsulator(
            self.table,
            self.counters,
            vxlan_ports,
            geneve_ports,
            dict(networks or {}),
            bounds.max_networks,
            bounds.max_fragments,
            bounds.fragment_timeout_us,
        )

    def frame(
        self, frame: bytes, link_type: int = 1, *, wire_length: int | None = None, time: int = 0
    ) -> None:
        """One frame. What lies around it in the buffer would be read as more of it."""
        length = len(frame) if wire_length is None else wire_length
        buf = b"\x45" * 40 + frame + b"\x45" * 40
        self.decap.frame(buf, 40, 40 + len(frame), length, link_type, START + time)

    def count(self, name: str) -> int:
        return self.counters.as_dict()[name]

    def drops(self) -> dict[str, int]:
        """The reasons why packets were not used."""
        counts = self.counters.as_dict()
        return {name: n for name, n in counts.items() if name.startswith("dropped_") and n}

    def told(self) -> list[tuple[Any, ...]]:
        """For each connection what `at` makes; bytes that were claimed but not captured are only counted."""
        out = []
        for recorder in self.factory.recorders:
            flow = recorder.flow
            data = [b"", b""]
            lost = 0
            for event in recorder.events:
                if event[0] == "data":
                    data[event[1]] += event[3]
                elif event[0] == "gap":
                    lost += event[3]
            ends = (flow.client_address, flow.client_port, flow.server_address, flow.server_port)
            out.append((*ends, flow.network.name, flow.vni, data[0], data[1], lost))
        return out


def at(
    payload: bytes,
    *,
    network: str = "default",
    vni: int = -1,
    client: tuple[str, int] = CLIENT,
    server: tuple[str, int] = SERVER,
    reply: bytes = b"",
    lost: int = 0,
) -> tuple[Any, ...]:
    """A connection as `Probe.told` tells of it."""
    return (
        _address(client[0]),
        client[1],
        _address(server[0]),
        server[1],
        network,
        vni,
        payload,
        reply,
        lost,
    )


def _address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def linked(packet: bytes, link_type: int) -> bytes:
    """An IP packet as it is captured on a link of this type."""
    v6 = packet[:1] and packet[0] >> 4 == 6
    ethertype = b"\x86\xdd" if v6 else b"\x08\x00"
    if link_type == 1:
        return ethernet(packet)
    if link_type == 113:
        return b"\0\0\0\1\0\6" + bytes(8) + ethertype + packet
    if link_type == 276:
        return ethertype + b"\0\0\0\0\0\2\0\1\0\6" + bytes(8) + packet
    if link_type == 0:
        return (b"\x1e\0\0\0" if v6 else b"\x02\0\0\0") + packet
    if link_type == 108:
        return (b"\0\0\0\x18" if v6 else b"\0\0\0\x02") + packet
    return packet
