"""Read network-order integers out of bytes, as i64. Compiled and inlined; bounds are checked by `librt`."""

from librt.strings import read_i16_be, read_i32_be
from mypy_extensions import i64

__all__ = ["find_zero", "i32_at", "u16_at", "u32_at"]


def u16_at(buf: bytes, at: i64) -> i64:
    """The unsigned 16-bit integer at `at`. IndexError if it is not all there."""
    return i64(read_i16_be(buf, at)) & 0xFFFF


def u32_at(buf: bytes, at: i64) -> i64:
    """The unsigned 32-bit integer at `at`. IndexError if it is not all there."""
    return i64(read_i32_be(buf, at)) & 0xFFFFFFFF


def i32_at(buf: bytes, at: i64) -> i64:
    """The signed 32-bit integer at `at`. IndexError if it is not all there."""
    return i64(read_i32_be(buf, at))


def find_zero(buf: bytes, start: i64, end: i64) -> i64:
    """Where the first zero byte in buf[start:end] is, -1 if there is none. 0 <= start, end <= len(buf)."""
    # Names are short: a loop is over before a call of bytes.find has its arguments together.
    near: i64 = start + 16
    if near > end:
        near = end
    at: i64 = start
    while at < near:
        if buf[at] == 0:
            return at
        at += 1
    if at >= end:
        return -1
    return buf.find(b"\x00", at, end)
