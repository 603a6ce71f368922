"""Make the captures of this directory again: ``python samples/make_samples.py [--only NAME ...]``.

Each conversation is held with a real server, captured on loopback (or by a proxy: ``--via proxy``), given
documentation-like addresses, cut at an MSS of 1448 and put into VXLAN as AWS VPC Traffic Mirroring does. What
cannot be done on this machine is skipped and its old file is left alone.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from samples import demo, hostile  # noqa: E402
from samples.conversations import CONVERSATIONS, Conversation, Place, prepare  # noqa: E402
from tests.support.postgres import Flavour, Server, running, unavailable  # noqa: E402
from tests.support.proxy import RecordingProxy, synthesise  # noqa: E402
from tests.support.sniffer import Sniffer, as_network, available  # noqa: E402
from tests.support.wrap import START, Frame, wrapped, write_pcap  # noqa: E402

SIZE_LIMIT = 60_000
CLIENTS = ("10.0.1.10", "10.0.1.11", "10.0.1.12")
HOUR = 3_600_000_000
# What the hostile variants are made of, and under which name they are written.
BASE = "mixed_session"
IPV6_BASE = "psycopg_extended"


class Recorder:
    """Captures what clients say to the server: with the sniffer, or through the proxy."""

    def __init__(self, server: Server, via: str) -> None:
        self._server = server
        self._sniffer = Sniffer(server.port) if via == "sniffer" else None
        self._proxy = None if self._sniffer else RecordingProxy(server.host, server.port)
        self.place = Place(server, self._proxy.port if self._proxy else server.port)

    def __enter__(self) -> Self:
        (self._sniffer or self._proxy).__enter__()  # type: ignore[union-attr]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._server.settle()
        (self._sniffer or self._proxy).__exit__(kind, error, trace)  # type: ignore[union-attr]

    def frames(
        self,
        start: int | None,
        clients: tuple[str, ...] = CLIENTS,
        server: tuple[str, int] = ("10.0.2.20", 5432),
    ) -> list[Frame]:
        """As between two machines, not yet in VXLAN."""
        if self._sniffer:
            if self._sniffer.dropped:
                raise RuntimeError(f"the sniffer lost {self._sniffer.dropped} frames: run again")
            return as_network(self._sniffer.frames, start=start, clients=clients, server=server)
        assert self._proxy is not None
        return synthesise(self._proxy.conversations(), start=start, clients=clients, server=server)


class Maker:
    """Writes the captures that are wanted."""

    def __init__(self, only: Sequence[str], via: str, target: Path) -> None:
        self.only = only
        self.via = via
        self.target = target

    def wants(self, name: str) -> bool:
        """Whether this capture was asked for."""
        return not self.only or name in self.only

    def write(self, name: str, frames: Sequence[Frame]) -> None:
        """One capture, in order of time."""
        path = self.target / f"{name}.pcap"
        size = write_pcap(path, frames)
        note = "  TOO LARGE" if size > SIZE_LIMIT else ""
        print(f"{path.name:32} {len(frames):5} frames {size:7} bytes{note}")

    def run(self, flavour: Flavour) -> None:
        """All captures of one kind of server."""
        talks = [one for one in CONVERSATIONS.values() if one.flavour == flavour]
        hostile_names = [f"hostile_{name}" for name in hostile.VARIANTS]
        extra = ["demo", "ipv6", *hostile_names] if flavour == "installed" else []
        if not any(self.wants(name) for name in [*(one.name for one in talks), *extra]):
            return
        if reason := unavailable(flavour):
            print(f"skipped all that need the {flavour} server: {reason}")
            return
        with running(flavour) as server:
            prepare(server, bench=True)
            for talk in talks:
                if self.wants(talk.name):
                    self.conversation(server, talk)
            if flavour == "installed":
                self.extras(server, hostile_names)

    def conversation(self, server: Server, talk: Conversation) -> None:
        """The capture of one conversation; of a TLS session also its key log."""
        if reason := talk.unavailable(Place(server, server.port)):
            print(f"{talk.name}: skipped: {reason}")
            return
        prepare(server)
        log = self.target / f"{talk.name}.keylog"
        if talk.tls:
            log.unlink(missing_ok=True)
            os.environ["SSLKEYLOGFILE"] = str(log)
        try:
            with Recorder(server, self.via) as recorder:
                talk.talk(recorder.place)
        finally:
            os.environ.pop("SSLKEYLOGFILE", None)
        begin = START + list(CONVERSATIONS).index(talk.name) * HOUR
        self.write(talk.name, wrapped(recorder.frames(begin), hostile.VNI))

    def extras(self, server: Server, hostile_names: Sequence[str]) -> None:
        """The demo, the capture over IPv6, the hostile variants."""
        if self.wants("demo"):
            self.demo(server)
        if self.wants("ipv6"):
            frames = self.record(server, IPV6_BASE, ("2001:db8:1::10",), ("2001:db8:2::20", 5432))
            self.write("ipv6", wrapped(frames, hostile.VNI))
        if any(self.wants(name) for name in hostile_names):
            frames = self.record(server, BASE)
            for name, variant in hostile.VARIANTS.items():
                if self.wants(f"hostile_{name}"):
                    self.write(f"hostile_{name}", variant(frames))

    def record(
        self,
        server: Server,
        name: str,
        clients: tuple[str, ...] = CLIENTS,
        address: tuple[str, int] = ("10.0.2.20", 5432),
    ) -> list[Frame]:
        """The frames of one conversation, not yet in VXLAN."""
        prepare(server)
        with Recorder(server, self.via) as recorder:
            CONVERSATIONS[name].talk(recorder.place)
        return recorder.frames(START, clients, address)

    def demo(self, server: Server) -> None:
        """The story, with its clock stretched and one segment lost."""
        prepare(server)
        with Recorder(server, self.via) as recorder:
            story = demo.Story(recorder.place)
            story.tell()
        told = [
            replace(frame, time=START + story.stretched(frame.time))
            for frame in recorder.frames(None, demo.CLIENTS)
        ]
        self.write("demo", wrapped(demo.lose(told), hostile.VNI))
        # The story changed a password; the next conversation expects the old one.
        server.psql(f"alter role anna password '{server.roles['anna'].password}'")


def main() -> None:
    """Parse the command line and make what it asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these captures")
    parser.add_argument(
        "--via", choices=["sniffer", "proxy"], help="how to capture (default: sniffer if allowed)"
    )
    parser.add_argument(
        "--target", type=Path, default=HERE, help="where to write (default: beside this program)"
    )
    arguments = parser.parse_args()
    via = arguments.via or "sniffer"
    if via == "sniffer" and (reason := available()):
        print(f"no sniffer ({reason}): recording through a proxy")
        via = "proxy"
    maker = Maker(arguments.only, via, arguments.target)
    arguments.target.mkdir(parents=True, exist_ok=True)
    if maker.wants("hostile_not_postgres"):
        maker.write("hostile_not_postgres", hostile.not_postgres(START))
    maker.run("installed")
    maker.run("embedded")


if __name__ == "__main__":
    main()
