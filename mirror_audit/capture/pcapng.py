"""Decode the pcapng file format: bytes in, frames out. Compiled: every packet of a pcapng file comes by here.

Sans-IO like `capture.pcap`, and with the same interface. The format is the one of draft-ietf-opsawg-pcapng:
any number of sections, each in its own byte order and with its own interfaces, whose clocks may count in any
decimal or binary fraction of a second. Read are Section Header, Interface Description, Enhanced Packet,
Simple Packet, the obsolete Packet and Decryption Secrets Blocks; all others are skipped, however long.

A Simple Packet Block has no time: the packet gets that of the packet before it (0 if there is none).
"""

from typing import Final

from librt.strings import read_i64_be, read_i64_le
from mypy_extensions import i64

from mirror_audit.capture.frames import FrameSink
from mirror_audit.capture.pcap import MAX_PACKET, Decoder, u16, u32

__all__ = [
    "MAX_BLOCK",
    "MAX_INTERFACES",
    "MAX_SECRETS",
    "MAX_SECRETS_BYTES",
    "MAX_TIME",
    "PcapngDecoder",
    "is_pcapng",
]

MAX_BLOCK: Final = 16 << 20
"""The longest block that is read; a longer one is skipped, or damage if decoding cannot go on without it."""

MAX_INTERFACES: Final = 65_536
"""Interfaces in one section; one more is damage."""

MAX_SECRETS: Final = 4_096
"""Decryption Secrets Blocks that are kept; later ones are only counted."""

MAX_SECRETS_BYTES: Final = 16 << 20
"""Bytes of decryption secrets that are kept, in all; a block that does not fit is only counted."""

MAX_TIME: Final = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z. Packets later than this get this time, those before 1970 get 0."""

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_ENHANCED_PACKET: Final = 6
_DECRYPTION_SECRETS: Final = 10
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D

_OPTION_END: Final = 0
_OPTION_TSRESOL: Final = 9
_OPTION_TSOFFSET: Final = 14


def is_pcapng(head: bytes) -> bool:
    """True if `head` (12 bytes or more) starts with a Section Header Block."""
    if u32(head, 0, True) != _SECTION_HEADER:
        return False
    return u32(head, 8, True) == _BYTE_ORDER_MAGIC or u32(head, 8, False) == _BYTE_ORDER_MAGIC


class _Interface:
    """One interface of a section: its link type and how it counts time."""

    def __init__(self, link_type: i64, snap_length: i64) -> None:
        self.link_type: i64 = link_type
        self.snap_length: i64 = snap_length
        self.divisor: i64 = 1
        self.offset: i64 = 0
        self._ticks_per_second: int = 1_000_000
        self._offset_seconds: int = 0

    def set_clock(self, resolution: i64, offset_seconds: i64) -> None:
        """`resolution` as in if_tsresol, `offset_seconds` as in if_tsoffset."""
        exponent: int = resolution & 0x7F
        base: int = 2 if resolution & 0x80 else 10
        self._ticks_per_second = base**exponent
        self._offset_seconds = offset_seconds
        # With a divisor, 64 bits are enough for every tick count below 2^62: see `time`.
        self.divisor = 0
        self.offset = 0
        if base == 10 and 6 <= exponent <= 18 and -(1 << 40) < offset_seconds < 1 << 40:
            self.divisor = self._ticks_per_second // 1_000_000
            self.offset = offset_seconds * 1_000_000

    def time(self, high: i64, low: i64) -> i64:
        """Microseconds since 1970 for the two halves of a tick count."""
        time: i64
        if self.divisor > 0 and high < 0x40000000:
            time = (high << 32) | low
            if self.divisor > 1:
                time = time // self.divisor
            time += self.offset
            if time < 0:
                return 0
            return min(time, MAX_TIME)
        return self._exact_time(high, low)

    def _exact_time(self, high: int, low: int) -> i64:
        # Python's own integers: the tick count takes all of 64 bits, the resolution up to 10^-127.
        ticks = (high << 32) | low
        time = ticks * 1_000_000 // self._ticks_per_second + self._offset_seconds * 1_000_000
        return min(max(time, 0), MAX_TIME)


class PcapngDecoder(Decoder):
    """Decodes a pcapng file from its first byte on (for which `is_pcapng` is true).

    `secrets` are the Decryption Secrets Blocks so far as (secrets type, secrets), and `secrets_dropped`
    counts those that were too long or too many to keep.
    """

    def __init__(self) -> None:
        super().__init__()
        self.secrets: list[tuple[int, bytes]] = []
        self.secrets_dropped: i64 = 0
        self._secrets_bytes: i64 = 0
        self._little = True
        self._interfaces: list[_Interface] = []
        self._time: i64 = 0
        # A block that is being skipped: bytes still to pass over, and the length its last field must repeat.
        self._skip: i64 = 0
        self._skipped_length: i64 = 0
        self.need = 12

    def decode(self, buf: bytes, start: i64, end: i64, sink: FrameSink) -> i64:
        pos: i64 = start
        while not self.damage:
            after: i64
            if self._skipped_length > 0:
                after = self._pass_over(buf, pos, end)
            elif end - pos < 12:
                # No block is shorter, and 12 bytes tell the byte order of a new section.
                self.need = 12
                break
            else:
                kind = u32(buf, pos, self._little)
                if kind in (_ENHANCED_PACKET, _PACKET):
                    after = self._packet(buf, pos, end, kind, sink)
                else:
                    after = self._other(buf, pos, end, kind, sink)
            if after == pos:
                break
            pos = after
        return pos

    def unfinished(self, rest: bytes) -> str:
        if self._skipped_length > 0:
            return "ends in the middle of a block"
        if not rest:
            return ""
        if len(rest) >= 4:
            kind = u32(rest, 0, self._little)
            if kind in (_ENHANCED_PACKET, _PACKET, _SIMPLE_PACKET):
                return f"ends in the middle of packet {self.packets + 1}"
        return "ends in the middle of a block"

    # Each of the following gets the position of a block and returns the one after it, or the same position
    # if it cannot go on: more bytes are needed, or `damage` is set.

    def _whole(self, buf: bytes, pos: i64, end: i64, shortest: i64) -> i64:
        """The end of a block that is read as a whole, `pos` if it is not all there."""
        length = u32(buf, pos + 4, self._little)
        if length < shortest or length & 3 or length > MAX_BLOCK:
            self.damage = f"is damaged: a block claims to be {length} bytes long"
            return pos
        stop: i64 = pos + length
        if stop > end:
            self.need = length
            return pos
        if u32(buf, stop - 4, self._little) != length:
            self.damage = "is damaged: a block has two different lengths"
            return pos
        return stop

    def _packet(self, buf: bytes, pos: i64, end: i64, kind: i64, sink: FrameSink) -> i64:
        little = self._little
        stop: i64 = self._whole(buf, pos, end, 32)
        if stop == pos:
            return pos
        number = u32(buf, pos + 8, little) if kind == _ENHANCED_PACKET else u16(buf, pos + 8, little)
        if number >= len(self._interfaces):
            self.damage = f"is damaged: packet {self.packets + 1} is of an interface that was not described"
            return pos
        interface = self._interfaces[number]
        length: i64 = u32(buf, pos + 20, little)
        if length > MAX_PACKET or length > stop - pos - 32:
            self.damage = f"is damaged: packet {self.packets + 1} claims {length} bytes"
            return pos
        wire_length = u32(buf, pos + 24, little)
        if wire_length < length:
            wire_length = length
        time = interface.time(u32(buf, pos + 12, little), u32(buf, pos + 16, little))
        self._time = time
        self.packets += 1
        sink.frame(buf, pos + 28, pos + 28 + length, wire_length, interface.link_type, time)
        return stop

    def _simple_packet(self, buf: bytes, pos: i64, end: i64, sink: FrameSink) -> i64:
        stop = self._whole(buf, pos, end, 16)
        if stop == pos:
            return pos
        if not self._interfaces:
            self.damage = f"is damaged: packet {self.packets + 1} is of an interface that was not described"
            return pos
        interface = self._interfaces[0]
        wire_length = u32(buf, pos + 8, self._little)
        # The captured length is not in the block: it follows from the interface's snap length.
        length: i64 = wire_length
        if length > interface.snap_length > 0:
            length = interface.snap_length
        if length > stop - pos - 16:
            length = stop - pos - 16
        if length > MAX_PACKET:
            self.damage = f"is damaged: packet {self.packets + 1} claims {length} bytes"
            return pos
        self.packets += 1
        sink.frame(buf, pos + 12, pos + 12 + length, wire_length, interface.link_type, self._time)
        return stop

    def _other(self, buf: bytes, pos: i64, end: i64, kind: i64, sink: FrameSink) -> i64:
        if kind == _SECTION_HEADER:
            return self._section_header(buf, pos, end)
        if kind == _INTERFACE_DESCRIPTION:
            return self._interface_description(buf, pos, end)
        if kind == _SIMPLE_PACKET:
            return self._simple_packet(buf, pos, end, sink)
        length = u32(buf, pos + 4, self._little)
        if kind == _DECRYPTION_SECRETS:
            if length <= MAX_BLOCK:
                return self._decryption_secrets(buf, pos, end)
            self.secrets_dropped += 1
        if length < 12 or length & 3:
            self.damage = f"is damaged: a block claims to be {length} bytes long"
            return pos
        self._skip = length - 12
        self._skipped_length = length
        return pos + 8

    def _pass_over(self, buf: bytes, pos: i64, end: i64) -> i64:
        if self._skip > 0:
            step = min(self._skip, end - pos)
            self._skip -= step
            self.need = 1
            return pos + step
        if end - pos < 4:
            self.need = 4
            return pos
        if u32(buf, pos, self._little) != self._skipped_length:
            self.damage = "is damaged: a block has two different lengths"
            return pos
        self._skipped_length = 0
        return pos + 4

    def _section_header(self, buf: bytes, pos: i64, end: i64) -> i64:
        # Only this block tells in which byte order its own length is.
        if u32(buf, pos + 8, True) == _BYTE_ORDER_MAGIC:
            self._little = True
        elif u32(buf, pos + 8, False) == _BYTE_ORDER_MAGIC:
            self._little = False
        else:
            self.damage = "is damaged: a section starts without a byte-order magic"
            return pos
        stop = self._whole(buf, pos, end, 28)
        if stop == pos:
            return pos
        version = u16(buf, pos + 12, self._little)
        if version != 1:
            self.damage = f"has a section of pcapng version {version}, only version 1 is known"
            return pos
        self._interfaces = []
        return stop

    def _interface_description(self, buf: bytes, pos: i64, end: i64) -> i64:
        little = self._little
        stop = self._whole(buf, pos, end, 20)
        if stop == pos:
            return pos
        if len(self._interfaces) >= MAX_INTERFACES:
            self.damage = f"has a section with more than {MAX_INTERFACES} interfaces"
            return pos
        interface = _Interface(u16(buf, pos + 8, little), u32(buf, pos + 12, little))
        resolution: i64 = 6
        offset_seconds: i64 = 0
        option: i64 = pos + 16
        last: i64 = stop - 4
        while last - option >= 4:
            code = u16(buf, option, little)
            length = u16(buf, option + 2, little)
            value: i64 = option + 4
            if code == _OPTION_END:
                break
            if value + length > last:
                self.damage = "is damaged: an option of an interface is longer than its block"
                return pos
            if code == _OPTION_TSRESOL and length == 1:
                resolution = buf[value]
            elif code == _OPTION_TSOFFSET and length == 8:
                offset_seconds = read_i64_le(buf, value) if little else read_i64_be(buf, value)
            elif code in (_OPTION_TSRESOL, _OPTION_TSOFFSET):
                self.damage = "is damaged: the clock of an interface is described in a wrong length"
                return pos
            option = value + ((length + 3) & ~3)
        interface.set_clock(resolution, offset_seconds)
        self._interfaces.append(interface)
        return stop

    def _decryption_secrets(self, buf: bytes, pos: i64, end: i64) -> i64:
        stop = self._whole(buf, pos, end, 20)
        if stop == pos:
            return pos
        length = u32(buf, pos + 12, self._little)
        if length > stop - pos - 20:
            self.damage = "is damaged: decryption secrets are longer than their block"
            return pos
        if len(self.secrets) >= MAX_SECRETS or self._secrets_bytes + length > MAX_SECRETS_BYTES:
            self.secrets_dropped += 1
        else:
            self._secrets_bytes += length
            self.secrets.append((u32(buf, pos + 8, self._little), buf[pos + 16 : pos + 16 + length]))
        return stop
