"""Record what clients and a real server say to each other, and replay it through the pipeline.

The sniffer sees the packets themselves; without the privilege for it a proxy records the bytes and the TCP
around them is made. Then the client's port is not the one that the server's log names.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mirror_audit.config import Limits, Redact, Settings
from mirror_audit.pipeline import Pipeline
from tests.support.postgres import Server
from tests.support.proxy import RecordingProxy, synthesise
from tests.support.samples import Place
from tests.support.sniffer import Sniffer, available
from tests.support.wrap import Frame

__all__ = ["Record", "Recording", "recording", "replayed", "written"]

Record = dict[str, Any]

LINKTYPE_ETHERNET = 1
# Nothing is to be cut: the server's log has everything.
WHOLE = Limits(max_text_bytes=1 << 24, max_parameter_bytes=1 << 24, max_parameters=1 << 16)


@dataclass(slots=True)
class Recording:
    """Where to talk (`place`); after the with block `frames` and the server's `port` in them.

    `true_ports`: the client's ports are those that the server saw.
    """

    place: Place
    port: int
    true_ports: bool
    frames: list[Frame] = field(default_factory=list)


@contextlib.contextmanager
def recording(server: Server) -> Iterator[Recording]:
    """Record the server's clients, until the last of them has gone."""
    if available() is None:
        made = Recording(Place(server, server.port), server.port, true_ports=True)
        with Sniffer(server.port) as sniffer:
            yield made
            server.settle()
        assert sniffer.dropped == 0, "the kernel dropped packets: the capture is not whole"
        made.frames = sniffer.frames
    else:
        with RecordingProxy(server.host, server.port) as proxy:
            made = Recording(Place(server, proxy.port), 5432, true_ports=False)
            yield made
            server.settle()
        made.frames = synthesise(proxy.conversations())


def written(frames: Sequence[Frame], port: int, redact: Redact = "none") -> bytes:
    """What the pipeline writes for these frames."""
    batches: list[bytes] = []
    pipeline = Pipeline(Settings(server_ports=(port,), redact=redact, limits=WHOLE), batches.append)
    for frame in frames:
        data = frame.bytes
        pipeline.frames.frame(data, 0, len(data), frame.length, LINKTYPE_ETHERNET, frame.time)
    pipeline.close()
    return b"".join(batches)


def replayed(frames: Sequence[Frame], port: int) -> list[Record]:
    """The audit records, without redaction."""
    return [json.loads(line) for line in written(frames, port).splitlines()]
