"""Read capture files: pcap or pcapng, plain or compressed with gzip or zstd, from disk or standard input.

What a file is, its first bytes tell, never its name. It is read as a stream, one block at a time, so the
memory needed does not depend on its length: a few blocks, plus the longest packet or pcapng block, plus for
zstd its window (MAX_ZSTD_WINDOW) and what _ZSTD_PIECE bytes can unpack to.

A damaged file yields all the frames before the damage, then a CaptureError. In damaged zstd data some
frames just before the damage may be missing too: its unit is a block of up to 128 KiB.
"""

import codecs
import importlib
import os
import select
import stat
import sys
import zlib
from io import FileIO
from types import TracebackType
from typing import Any, Final, Protocol

from mypy_extensions import i64

from mirror_audit.capture.frames import FrameSink
from mirror_audit.capture.pcap import FILE_HEADER_LENGTH, Decoder, PcapDecoder, is_pcap
from mirror_audit.capture.pcapng import PcapngDecoder, is_pcapng
from mirror_audit.errors import CaptureError

__all__ = ["BLOCK_SIZE", "MAX_ZSTD_WINDOW", "CaptureFile", "RawSource", "open_capture"]

BLOCK_SIZE: Final = 1 << 16
"""Bytes that are read (or unpacked) at once. Larger blocks are slower: they leave the processor's cache, and
from 128 KiB on the C library maps fresh memory for each of them."""

MAX_ZSTD_WINDOW: Final = 1 << 27
"""The largest window that zstd data may ask for: what `zstd --long` takes, and zstd's own default limit."""

_STANDARD_INPUT: Final = "standard input"
_COMPRESSED_BLOCK: Final = 1 << 16
# A zstd decompressor returns everything that its input unpacks to, at the very worst 32768 times as much.
_ZSTD_PIECE: Final = 1024

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE_MAGIC: Final = b"\x2a\x4d\x18"

_FOREIGN: Final = (
    (b"\xfd7zXZ\x00", "is compressed with xz: decompress it first"),
    (b"BZh", "is compressed with bzip2: decompress it first"),
    (b"\x04\x22\x4d\x18", "is compressed with lz4: decompress it first"),
    (b"PK\x03\x04", "is a zip archive: unpack it first"),
    (b"snoop\x00\x00\x00", "is a snoop capture: convert it to pcap first"),
)


class RawSource(Protocol):
    """A binary file as far as it is needed here: unbuffered, so that a live pipe is read without delay."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; b"" at the end; None if a non-blocking file has none at the moment."""

    def fileno(self) -> int:
        """The file descriptor to wait for after None."""

    def close(self) -> None:
        """Release the file."""


class _Stream:
    """Bytes one block after the other. `damage` says why there are no more of them; "" at the proper end."""

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.damage = ""
        self._head = b""

    def peek(self, size: int) -> bytes:
        """At least `size` bytes from here on, fewer only at the end; they are not used up."""
        while len(self._head) < size:
            more = self._more()
            if not more:
                break
            self._head += more
        return self._head

    def drop(self, size: int) -> None:
        """Use up `size` bytes that `peek` has shown."""
        self._head = self._head[size:]

    def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        if self._head:
            head = self._head
            self._head = b""
            return head
        return self._more()

    def _more(self) -> bytes:
        raise NotImplementedError


class _PlainStream(_Stream):
    """The bytes of the file itself. `position` counts them."""

    def __init__(self, raw: RawSource, block_size: int) -> None:
        super().__init__(block_size)
        self.position = 0
        self._raw = raw

    def _more(self) -> bytes:
        while True:
            try:
                data = self._raw.read(self.block_size)
                if data is None:
                    select.select([self._raw.fileno()], [], [])
                    continue
            except OSError as error:
                self.damage = f"cannot be read: {_explain(error)}"
                return b""
            self.position += len(data)
            return data


class _GzipStream(_Stream):
    """Unpacks any number of gzip members one after the other (RFC 1952), and zero bytes after them."""

    def __init__(self, packed: _Stream, block_size: int) -> None:
        super().__init__(block_size)
        self._packed = packed
        self._input = b""
        # zlib has no public name for the type of its decompressors.
        self._member: Any = None

    def _more(self) -> bytes:
        while not self.damage:
            if not self._input:
                self._input = self._packed.read()
                if not self._input:
                    return self._last()
            if self._member is None:
                self._input = self._input.lstrip(b"\0")
                if not self._input:
                    continue
                self._member = zlib.decompressobj(wbits=31)
            before = self._member.copy()
            try:
                data: bytes = self._member.decompress(self._input, self.block_size)
            except zlib.error as error:
                self.damage = f"has damaged gzip data ({error})"
                return _salvage(before, self._input)
            if self._member.eof:
                self._input = self._member.unused_data
                self._member = None
            else:
                self._input = self._member.unconsumed_tail
            if data:
                return data
        return b""

    def _last(self) -> bytes:
        self.damage = self._packed.damage
        if self._member is None:
            return b""
        # zlib may have taken all of its input without having returned all that it unpacks to.
        data: bytes = self._member.decompress(b"", self.block_size)
        if not data and not self.damage:
            self.damage = "ends in the middle of its gzip data"
        return data


def _salvage(member: Any, packed: bytes) -> bytes:
    """What `packed` unpacks to before the damage that is in it."""
    data = bytearray()
    try:
        for i in range(len(packed)):
            data += member.decompress(packed[i : i + 1])
    except zlib.error:
        pass
    return bytes(data)


class _ZstdStream(_Stream):
    """Unpacks any number of zstd frames one after the other (RFC 8878)."""

    def __init__(self, packed: _Stream, block_size: int) -> None:
        super().__init__(block_size)
        # An optional dependency. (A compiled `import` statement would look for it only the first time.)
        zstandard = importlib.import_module("zstandard")
        self._error: Any = zstandard.ZstdError
        self._unpacker: Any = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
        self._packed = packed
        self._input = b""
        self._used = 0
        self._frame: Any = None

    def _more(self) -> bytes:
        parts: list[bytes] = []
        length = 0
        while not self.damage and length < self.block_size:
            if self._used >= len(self._input):
                if parts:
                    break
                self._input = self._packed.read()
                self._used = 0
                if not self._input:
                    self.damage = self._packed.damage
                    if self._frame is not None and not self.damage:
                        self.damage = "ends in the middle of its zstd data"
                    break
            data = self._unpack(self._input[self._used : self._used + _ZSTD_PIECE])
            if data:
                parts.append(data)
                length += len(data)
        return b"".join(parts)

    def _unpack(self, piece: bytes) -> bytes:
        try:
            if self._frame is None:
                self._frame = self._unpacker.decompressobj()
            data: bytes = self._frame.decompress(piece)
        except self._error as error:
            self.damage = f"has damaged zstd data ({error})"
            return b""
        self._used += len(piece)
        if self._frame.eof:
            self._used -= len(self._frame.unused_data)
            self._frame = None
        return data


class CaptureFile:
    """A capture that is being read. A context manager; made by `open_capture`."""

    def __init__(
        self, source: str, raw: RawSource, block_size: int = BLOCK_SIZE, bytes_total: int | None = None
    ) -> None:
        """`source` names the capture in errors, `bytes_total` is the length of `raw` if known.

        Raises CaptureError if `raw` holds no capture; closing `raw` is then left to the caller.
        """
        self.source = source
        self.bytes_total = bytes_total
        self._raw = raw
        self._plain = _PlainStream(raw, block_size)
        self._offset: i64 = 0
        self._rest = bytearray()
        self._error: CaptureError | None = None
        self._stream: _Stream
        self._unpacked = ""
        self._stream = self._open_stream(block_size)
        self._decoder: Decoder = self._open_decoder()

    @property
    def packets(self) -> i64:
        """Frames delivered so far."""
        return self._decoder.packets

    @property
    def offset(self) -> i64:
        """Bytes of the (decompressed) file that are done with."""
        return self._offset

    @property
    def bytes_read(self) -> int:
        """Bytes read so far from the file as it is; compare with `bytes_total` (None: not known)."""
        return self._plain.position

    @property
    def secrets(self) -> list[tuple[int, bytes]]:
        """The Decryption Secrets Blocks so far as (secrets type, secrets): see `capture.pcapng`."""
        decoder = self._decoder
        return decoder.secrets if isinstance(decoder, PcapngDecoder) else []

    @property
    def secrets_dropped(self) -> i64:
        """Decryption Secrets Blocks beyond the limits of `capture.pcapng`, which are not in `secrets`."""
        decoder = self._decoder
        return decoder.secrets_dropped if isinstance(decoder, PcapngDecoder) else 0

    def read_block(self, sink: FrameSink) -> bool:
        """Read one block and give `sink` every frame that is complete by now; False at the end of the file.

        Raises CaptureError if the file is damaged, ends too early, cannot be read on or was closed; frames
        before the damage have been delivered then, and every further call raises the same error.
        """
        if self._error is not None:
            raise self._error
        chunk = self._stream.read()
        if not chunk:
            # Of the two, damaged compression is the cause and a cut packet only its effect.
            reason = self._stream.damage or self._decoder.unfinished(bytes(self._rest))
            if reason:
                raise self._fail(reason)
            return False
        decoder = self._decoder
        if len(self._rest) + len(chunk) < decoder.need:
            self._rest += chunk
            return True
        buf = b"".join((self._rest, chunk)) if self._rest else chunk
        used = decoder.decode(buf, 0, len(buf), sink)
        self._offset += used
        self._rest = bytearray(buf[used:])
        if decoder.damage:
            raise self._fail(decoder.damage)
        return True

    def close(self) -> None:
        """Release the file. Reading on raises CaptureError."""
        if self._error is None:
            self._error = CaptureError(self.source, "is closed", self._offset, self._decoder.packets)
        self._rest = bytearray()
        self._raw.close()

    def __enter__(self) -> "CaptureFile":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _fail(self, reason: str) -> CaptureError:
        self._error = CaptureError(self.source, reason, self._offset, self._decoder.packets)
        return self._error

    def _open_stream(self, block_size: int) -> _Stream:
        plain = self._plain
        magic = plain.peek(4)[:4]
        if magic[:2] == _GZIP_MAGIC:
            plain.block_size = min(block_size, _COMPRESSED_BLOCK)
            self._unpacked = " after gzip decompression"
            return _GzipStream(plain, block_size)
        if magic == _ZSTD_MAGIC or (magic[1:] == _ZSTD_SKIPPABLE_MAGIC and 0x50 <= magic[0] <= 0x5F):
            plain.block_size = min(block_size, _COMPRESSED_BLOCK)
            self._unpacked = " after zstd decompression"
            try:
                return _ZstdStream(plain, block_size)
            except ImportError:
                reason = "is compressed with zstd: install the package zstandard, or decompress it first"
                raise CaptureError(self.source, reason) from None
        return plain

    def _open_decoder(self) -> Decoder:
        head = self._stream.peek(FILE_HEADER_LENGTH)
        if len(head) >= 4 and is_pcap(head):
            if len(head) >= FILE_HEADER_LENGTH:
                self._stream.drop(FILE_HEADER_LENGTH)
                self._offset = FILE_HEADER_LENGTH
                return PcapDecoder(head[:FILE_HEADER_LENGTH])
            raise CaptureError(self.source, self._stream.damage or "ends in the middle of its file header")
        if len(head) >= 12 and is_pcapng(head):
            return PcapngDecoder()
        raise CaptureError(self.source, self._foreign(head[:FILE_HEADER_LENGTH]))

    def _foreign(self, head: bytes) -> str:
        """What a file is that is no capture, in words for its owner."""
        if len(head) < FILE_HEADER_LENGTH and self._stream.damage:
            return self._stream.damage
        if not head:
            return f"is empty{self._unpacked}"
        for magic, what in _FOREIGN:
            if head.startswith(magic):
                return what + self._unpacked
        # Control characters other than tab, line feed, form feed and carriage return are in no text.
        if all((c >= 0x20 and c != 0x7F) or c in b"\t\n\f\r" for c in head) and _is_utf8(head):
            return f"is not a capture: starts with text{self._unpacked}"
        return f"is not a capture: starts with bytes {head[:8].hex(' ')}{self._unpacked}"


def _is_utf8(head: bytes) -> bool:
    try:
        # Incremental: the last character may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _explain(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def open_capture(path: str, block_size: int = BLOCK_SIZE) -> CaptureFile:
    """Open the capture file `path` ("-": standard input) and read as much of it as tells what it is.

    Raises CaptureError, with one sentence for the user, if it is missing, unreadable, a directory, empty or
    no capture. `block_size` is in bytes, 1 or more.
    """
    source = path
    raw: FileIO
    try:
        if path == "-":
            source = _STANDARD_INPUT
            if sys.__stdin__ is not None and sys.__stdin__.isatty():
                raise CaptureError(source, "is a terminal: redirect or pipe a capture into it")
            # Not sys.stdin: its buffer waits for full blocks, which a live capture fills only slowly.
            raw = FileIO(0, closefd=False)
        else:
            raw = FileIO(path)
    except FileNotFoundError:
        raise CaptureError(source, "does not exist") from None
    except IsADirectoryError:
        raise CaptureError(source, "is a directory, not a capture file") from None
    except (OSError, ValueError) as error:
        reason = _explain(error) if isinstance(error, OSError) else str(error)
        raise CaptureError(source, f"cannot be opened: {reason}") from None
    try:
        status = os.fstat(raw.fileno())
        total = status.st_size if stat.S_ISREG(status.st_mode) else None
        return CaptureFile(source, raw, block_size, total)
    except BaseException:
        raw.close()
        raise
