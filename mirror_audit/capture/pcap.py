"""Decode the pcap file format: bytes in, frames out. Compiled: every packet of a pcap file goes through here.

Sans-IO: whoever reads the file hands over its bytes in pieces of any size (see `capture.files`) and passes
the bytes that were not used yet again, in front of the next ones. The format is the one of
draft-ietf-opsawg-pcap, written in either byte order with microseconds or nanoseconds, and the "modified"
one of Alexey Kuznetzov's libpcap, whose record headers are eight bytes longer.

A pcap file has no marks between its records: damage shows only as a length that cannot be.
"""

from typing import Final

from librt.strings import read_i16_be, read_i16_le, read_i32_be, read_i32_le
from mypy_extensions import i64

from mirror_audit.capture.frames import FrameSink

__all__ = ["FILE_HEADER_LENGTH", "MAX_PACKET", "Decoder", "PcapDecoder", "is_pcap", "u16", "u32"]

FILE_HEADER_LENGTH: Final = 24
"""Bytes before the first record."""

MAX_PACKET: Final = 1 << 20
"""The most bytes one captured packet can have; a longer one is damage. (tcpdump captures 262144 at most.)"""

_MICROSECONDS: Final = 0xA1B2C3D4
_NANOSECONDS: Final = 0xA1B23C4D
_MODIFIED: Final = 0xA1B2CD34


def u16(buf: bytes, pos: i64, little: bool) -> i64:
    """The two bytes at `pos` as an unsigned number. Raises IndexError beyond the end."""
    if little:
        return i64(read_i16_le(buf, pos)) & 0xFFFF
    return i64(read_i16_be(buf, pos)) & 0xFFFF


def u32(buf: bytes, pos: i64, little: bool) -> i64:
    """The four bytes at `pos` as an unsigned number. Raises IndexError beyond the end."""
    if little:
        return i64(read_i32_le(buf, pos)) & 0xFFFFFFFF
    return i64(read_i32_be(buf, pos)) & 0xFFFFFFFF


class Decoder:
    """What the decoders of both formats have in common.

    `packets` counts the frames delivered, `need` is how many bytes must be there, from the first unused
    one on, before it makes sense to go on, and `damage` says why decoding cannot go on ("" while it can).
    """

    def __init__(self) -> None:
        self.packets: i64 = 0
        self.need: i64 = 1
        self.damage = ""

    def decode(self, buf: bytes, start: i64, end: i64, sink: FrameSink) -> i64:
        """Deliver the whole frames in buf[start:end]; return the position of the first unused byte.

        Never raises, whatever the bytes are: sets `damage` (the position is then that of the damage).
        """
        raise NotImplementedError

    def unfinished(self, rest: bytes) -> str:
        """Why the file must not end here with `rest` unused; "" if it may."""
        raise NotImplementedError


def is_pcap(head: bytes) -> bool:
    """True if `head` (four bytes or more) starts with a magic number of the pcap format."""
    return _is_magic(u32(head, 0, True)) or _is_magic(u32(head, 0, False))


def _is_magic(magic: i64) -> bool:
    return magic in (_MICROSECONDS, _NANOSECONDS, _MODIFIED)


class PcapDecoder(Decoder):
    """Decodes what follows the file header of a pcap file."""

    def __init__(self, header: bytes) -> None:
        """`header`: the first FILE_HEADER_LENGTH bytes of the file, for which `is_pcap` is true."""
        super().__init__()
        self._little = _is_magic(u32(header, 0, True))
        magic = u32(header, 0, self._little)
        self._nanoseconds = magic == _NANOSECONDS
        self._header_length: i64 = 24 if magic == _MODIFIED else 16
        # The upper half holds the length of the frame check sequence and reserved bits.
        self._link_type: i64 = u32(header, 20, self._little) & 0xFFFF
        self.need = self._header_length

    def decode(self, buf: bytes, start: i64, end: i64, sink: FrameSink) -> i64:
        little = self._little
        nanoseconds = self._nanoseconds
        header_length = self._header_length
        link_type = self._link_type
        pos: i64 = start
        self.need = header_length
        while end - pos >= header_length:
            length: i64 = u32(buf, pos + 8, little)
            if length > MAX_PACKET:
                self.damage = (
                    f"is damaged: packet {self.packets + 1} claims {length} bytes, more than {MAX_PACKET}"
                )
                break
            data: i64 = pos + header_length
            stop: i64 = data + length
            if stop > end:
                self.need = stop - pos
                break
            fraction: i64 = u32(buf, pos + 4, little)
            if nanoseconds:
                fraction = fraction // 1000
            time: i64 = u32(buf, pos, little) * 1_000_000 + fraction
            wire_length: i64 = u32(buf, pos + 12, little)
            if wire_length < length:
                # Some writers leave it 0, and the oldest swapped the two lengths.
                wire_length = length
            self.packets += 1
            sink.frame(buf, data, stop, wire_length, link_type, time)
            pos = stop
        return pos

    def unfinished(self, rest: bytes) -> str:
        return f"ends in the middle of packet {self.packets + 1}" if rest else ""
