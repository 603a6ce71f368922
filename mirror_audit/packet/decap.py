"""From a captured frame to the TCP segment inside it: link layer, IP, VXLAN and GENEVE, nested as found.

Link types: Ethernet with VLAN tags, Linux cooked v1 and v2, raw IP, BSD null and loop. IPv4 with options and
fragments, IPv6 with extension headers and fragments. VXLAN (RFC 7348) needs its I flag, the reserved bits are
ignored; GENEVE (RFC 8926) is what a gateway load balancer puts around a mirrored packet. Nothing is rejected
by checksum: offload and truncation make checksums wrong in captures of sound traffic.

What cannot be used is counted by reason and leaves nothing behind.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.capture.frames import FrameSink
from mirror_audit.counters import Counters
from mirror_audit.octets import u16_at, u32_at
from mirror_audit.packet.flow import Network
from mirror_audit.packet.flows import FlowTable
from mirror_audit.packet.fragments import FragmentTable

__all__ = ["Decapsulator"]

LINKTYPE_NULL: Final = 0
LINKTYPE_ETHERNET: Final = 1
LINKTYPE_RAW_BSD: Final = 12
LINKTYPE_RAW_OPENBSD: Final = 14
LINKTYPE_RAW: Final = 101
LINKTYPE_LOOP: Final = 108
LINKTYPE_LINUX_SLL: Final = 113
LINKTYPE_IPV4: Final = 228
LINKTYPE_IPV6: Final = 229
LINKTYPE_LINUX_SLL2: Final = 276

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD
ETHERTYPE_TRANSPARENT_ETHERNET: Final = 0x6558

# A mirror of a mirror of an overlay is three deep; what goes deeper is an attack on the decoder.
MAX_DEPTH: Final = 8
MAX_VLAN_TAGS: Final = 4
MAX_EXTENSION_HEADERS: Final = 16


class Decapsulator(FrameSink):
    """Takes frames, finds TCP segments and hands them to the flow table."""

    def __init__(
        self,
        flows: FlowTable,
        counters: Counters,
        vxlan_ports: tuple[int, ...],
        geneve_ports: tuple[int, ...],
        network_names: dict[int, str],
        max_networks: i64,
        max_datagrams: i64,
        fragment_timeout_us: i64,
    ) -> None:
        self.flows = flows
        self.counters = counters
        kinds = bytearray(65536)
        for port in geneve_ports:
            kinds[port] = 2
        for port in vxlan_ports:
            kinds[port] = 1
        self.udp_kind = bytes(kinds)
        self.network_names = network_names
        self.max_networks: i64 = max_networks
        self.fragments = FragmentTable(max_datagrams, fragment_timeout_us, counters)
        self.top = Network("default")
        self.by_name: dict[str, Network] = {"default": self.top}
        # The last VXLAN network looked up: mirrored packets come in long runs of one VNI.
        self.last_vni: i64 = -1
        self.last_network = self.top

    def frame(self, buf: bytes, start: i64, end: i64, wire_length: i64, link_type: i64, time: i64) -> None:
        """See `FrameSink.frame`."""
        counters = self.counters
        counters.packets += 1
        counters.packet_bytes += end - start
        if wire_length > end - start:
            counters.truncated_packets += 1
        if link_type == LINKTYPE_ETHERNET:
            self._ethernet(buf, start, end, self.top, -1, time, 0)
        elif link_type == LINKTYPE_LINUX_SLL:
            if end - start < 16:
                counters.dropped_malformed += 1
                return
            self._ethertype(buf, start + 14, end, self.top, -1, time, 0)
        elif link_type == LINKTYPE_LINUX_SLL2:
            if end - start < 20:
                counters.dropped_malformed += 1
                return
            ethertype: i64 = u16_at(buf, start)
            if ethertype == 0x8100 or ethertype == 0x88A8 or ethertype == 0x9100:
                # The rest of the tag, and the EtherType behind it, follow the cooked header.
                self._ethertype(buf, start + 22, end, self.top, -1, time, 0)
                return
            self._network_layer(buf, start + 20, end, ethertype, self.top, -1, time, 0)
        elif (
            link_type == LINKTYPE_RAW
            or link_type == LINKTYPE_RAW_BSD
            or link_type == LINKTYPE_RAW_OPENBSD
            or link_type == LINKTYPE_IPV4
            or link_type == LINKTYPE_IPV6
        ):
            self._raw_ip(buf, start, end, self.top, -1, time, 0)
        elif link_type == LINKTYPE_NULL or link_type == LINKTYPE_LOOP:
            # Four bytes of address family, in the capturing machine's byte order and numbering: the IP
            # version behind them says the same without guessing.
            self._raw_ip(buf, start + 4, end, self.top, -1, time, 0)
        else:
            counters.dropped_link_type += 1

    def _ethernet(
        self, buf: bytes, start: i64, end: i64, network: Network, vni: i64, time: i64, depth: i64
    ) -> None:
        if end - start < 14:
            self.counters.dropped_malformed += 1
            return
        self._ethertype(buf, start + 12, end, network, vni, time, depth)

    def _ethertype(
        self, buf: bytes, at: i64, end: i64, network: Network, vni: i64, time: i64, depth: i64
    ) -> None:
        """Read the EtherType at `at`, through VLAN tags (IEEE 802.1Q, 802.1ad)."""
        tags: i64 = 0
        while at + 2 <= end:
            ethertype: i64 = u16_at(buf, at)
            if ethertype == 0x8100 or ethertype == 0x88A8 or ethertype == 0x9100:
                tags += 1
                if tags > MAX_VLAN_TAGS:
                    break
                at += 4
                continue
            self._network_layer(buf, at + 2, end, ethertype, network, vni, time, depth)
            return
        self.counters.dropped_malformed += 1

    def _network_layer(
        self,
        buf: bytes,
        start: i64,
        end: i64,
        ethertype: i64,
        network: Network,
        vni: i64,
        time: i64,
        depth: i64,
    ) -> None:
        if ethertype == ETHERTYPE_IPV4:
            self._ipv4(buf, start, end, network, vni, time, depth)
        elif ethertype == ETHERTYPE_IPV6:
            self._ipv6(buf, start, end, network, vni, time, depth)
        else:
            self.counters.dropped_not_ip += 1

    def _raw_ip(
        self, buf: bytes, start: i64, end: i64, network: Network, vni: i64, time: i64, depth: i64
    ) -> None:
        if start >= end:
            self.counters.dropped_malformed += 1
            return
        version: i64 = buf[start] >> 4
        if version == 4:
            self._ipv4(buf, start, end, network, vni, time, depth)
        elif version == 6:
            self._ipv6(buf, start, end, network, vni, time, depth)
        else:
            self.counters.dropped_not_ip += 1

    def _ipv4(
        self, buf: bytes, start: i64, end: i64, network: Network, vni: i64, time: i64, depth: i64
    ) -> None:
        if end - start < 20:
            self.counters.dropped_malformed += 1
            return
        first: i64 = buf[start]
        header: i64 = (first & 15) * 4
        if first >> 4 != 4 or header < 20 or start + header > end:
            self.counters.dropped_malformed += 1
            return
        total: i64 = u16_at(buf, start + 2)
        if total == 0:
            # Segmentation offload leaves the length 0 in captures made on the sender itself.
            total = end - start
        if total < header:
            self.counters.dropped_malformed += 1
            return
        claimed: i64 = start + total
        captured: i64 = end
        if claimed < captured:
            captured = claimed  # the rest is Ethernet padding
        protocol: i64 = buf[start + 9]
        fragment: i64 = u16_at(buf, start + 6)
        if fragment & 0x3FFF != 0:
            if captured < claimed:
                self.counters.dropped_malformed += 1
                return
            key = network.name.encode() + buf[start + 12 : start + 20] + buf[start + 4 : start + 6]
            key = key + buf[start + 9 : start + 10]
            whole = self.fragments.add(
                key, buf, start + header, captured, (fragment & 0x1FFF) * 8, fragment & 0x2000 != 0, time
            )
            if whole is None:
                return
            buf = buf[start + 12 : start + 20] + whole
            size: i64 = len(buf)
            self._transport(buf, 0, False, 8, size, size, protocol, network, vni, time, depth)
            return
        self._transport(
            buf, start + 12, False, start + header, captured, claimed, protocol, network, vni, time, depth
        )

    def _ipv6(
        self, buf: bytes, start: i64, end: i64, network: Network, vni: i64, time: i64, depth: i64
    ) -> None:
        if end - start < 40 or buf[start] >> 4 != 6:
            self.counters.dropped_malformed += 1
            return
        length: i64 = u16_at(buf, start + 4)
        claimed: i64 = start + 40 + length
        if length == 0:
            claimed = end  # a jumbogram or a segmentation offload: the capture's own length is all there is
        captured: i64 = end
        if claimed < captured:
            captured = claimed
        protocol: i64 = buf[start + 6]
        at: i64 = start + 40
        headers: i64 = 0
        while protocol == 0 or protocol == 43 or protocol == 60 or protocol == 51 or protocol == 44:
            headers += 1
            if at + 8 > captured or headers > MAX_EXTENSION_HEADERS:
                self.counters.dropped_malformed += 1
                return
            following: i64 = buf[at]
            if protocol == 44:
                fragment: i64 = u16_at(buf, at + 2)
                if fragment & 0xFFF9 != 0:
                    if captured < claimed:
                        self.counters.dropped_malformed += 1
                        return
                    key = network.name.encode() + buf[start + 8 : start + 40] + buf[at + 4 : at + 8]
                    whole = self.fragments.add(
                        key, buf, at + 8, captured, fragment & 0xFFF8, fragment & 1 != 0, time
                    )
                    if whole is None:
                        return
                    buf = buf[start + 8 : start + 40] + whole
                    size: i64 = len(buf)
                    # Only the headers behind the fragment header can follow; TCP and UDP are what we look
                    # for.
                    self._transport(buf, 0, True, 32, size, size, following, network, vni, time, depth)
                    return
                at += 8
            elif protocol == 51:
                at += (buf[at + 1] + 2) * 4
            else:
                at += (buf[at + 1] + 1) * 8
            protocol = following
        self._transport(buf, start + 8, True, at, captured, claimed, protocol, network, vni, time, depth)

    def _transport(
        self,
        buf: bytes,
        addresses: i64,
        v6: bool,
        start: i64,
        captured: i64,
        claimed: i64,
        protocol: i64,
        network: Network,
        vni: i64,
        time: i64,
        depth: i64,
    ) -> None:
        """The transport header at `start`; the datagram was captured to `captured` and claims `claimed`."""
        if protocol == 6:
            self.flows.segment(network, vni, buf, addresses, v6, start, captured, claimed, time)
        elif protocol == 17:
            if captured - start < 8:
                self.counters.dropped_malformed += 1
                return
            port: i64 = u16_at(buf, start + 2)
            kind: i64 = self.udp_kind[port]
            if kind == 1:
                self._vxlan(buf, start + 8, captured, network, time, depth)
            elif kind == 2:
                self._geneve(buf, start + 8, captured, network, vni, time, depth)
            else:
                self.counters.dropped_not_tcp += 1
        else:
            self.counters.dropped_not_tcp += 1

    def _vxlan(self, buf: bytes, start: i64, end: i64, network: Network, time: i64, depth: i64) -> None:
        """RFC 7348 section 5: flags, 24 reserved bits, VNI, 8 reserved bits, then an Ethernet frame."""
        if end - start < 8:
            self.counters.dropped_malformed += 1
            return
        if buf[start] & 0x08 == 0:
            self.counters.dropped_vxlan_flag += 1
            return
        if depth >= MAX_DEPTH:
            self.counters.dropped_encapsulation_depth += 1
            return
        word: i64 = u32_at(buf, start + 4)
        vni: i64 = (word >> 8) & 0xFFFFFF
        self.counters.vxlan_packets += 1
        if network is not self.top or vni != self.last_vni:
            found = self._network(network, vni)
            if found is None:
                self.counters.dropped_networks_limit += 1
                return
            if network is self.top:
                self.last_vni = vni
                self.last_network = found
            network = found
        else:
            network = self.last_network
        self._ethernet(buf, start + 8, end, network, vni, time, depth + 1)

    def _geneve(
        self, buf: bytes, start: i64, end: i64, network: Network, vni: i64, time: i64, depth: i64
    ) -> None:
        """RFC 8926 section 3.4. Its VNI is the load balancer's own business and names no network."""
        if end - start < 8:
            self.counters.dropped_malformed += 1
            return
        if depth >= MAX_DEPTH:
            self.counters.dropped_encapsulation_depth += 1
            return
        options: i64 = (buf[start] & 0x3F) * 4
        ethertype: i64 = u16_at(buf, start + 2)
        inner: i64 = start + 8 + options
        if inner > end:
            self.counters.dropped_malformed += 1
            return
        self.counters.geneve_packets += 1
        if ethertype == ETHERTYPE_TRANSPARENT_ETHERNET:
            self._ethernet(buf, inner, end, network, vni, time, depth + 1)
        else:
            self._network_layer(buf, inner, end, ethertype, network, vni, time, depth + 1)

    def _network(self, parent: Network, vni: i64) -> Network | None:
        """The network of a VNI inside `parent`; VNIs that were given one name share one network."""
        number = int(vni)
        children = parent.children
        found = children.get(number)
        if found is not None:
            return found
        if len(self.by_name) >= self.max_networks:
            return None
        name = self.network_names.get(number)
        if name is None:
            name = "vni-" + str(number)
        if parent is not self.top:
            name = parent.name + "/" + name
        network = self.by_name.get(name)
        if network is None:
            network = Network(name)
            self.by_name[name] = network
        children[number] = network
        return network
