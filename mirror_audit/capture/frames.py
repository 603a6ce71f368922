"""Where captured frames go: the one interface between a capture and what reads it."""

from mypy_extensions import i64, mypyc_attr

__all__ = ["FrameSink"]


@mypyc_attr(allow_interpreted_subclasses=True)
class FrameSink:
    """Takes frames. `packet.decap.Decapsulator` is the real one; tests make their own."""

    def frame(self, buf: bytes, start: i64, end: i64, wire_length: i64, link_type: i64, time: i64) -> None:
        """One captured frame.

        buf[start:end] is what was captured, from the link layer's first byte; the buffer may hold other
        frames around it. `wire_length` is the frame's length on the wire (bytes; more than end - start if
        the capture cut it). `link_type` is a LINKTYPE_ number of the pcap format. `time` is the packet's
        own clock in microseconds since 1970-01-01 UTC.
        """
        raise NotImplementedError
