"""Who a session is: what its records say in their envelope, encoded once and copied into each."""

from ipaddress import ip_address

from librt.strings import BytesWriter
from mypy_extensions import i64

from mirror_audit.audit.envelope import flow_hash
from mirror_audit.jsontext import write_int, write_string
from mirror_audit.packet.flow import Flow

__all__ = ["Identity"]


def _optional(w: BytesWriter, value: bytes | None) -> None:
    if value is None:
        w.write(b"null")
    else:
        write_string(w, value)


class Identity:
    """Addresses, user, database and what else stands in every record of a session."""

    def __init__(self, flow: Flow) -> None:
        name = flow.network.name
        self.client_hash = flow_hash(
            name, flow.client_address, flow.client_port, flow.server_address, flow.server_port
        )
        self.server_hash = flow_hash(
            name, flow.server_address, flow.server_port, flow.client_address, flow.client_port
        )
        self.session_id = self.client_hash + b"%014x" % max(int(flow.start_time), 0)
        self.network = name.encode()
        self.vni: i64 = flow.vni
        self.peer_address = str(ip_address(flow.client_address)).encode()
        self.peer_port: i64 = flow.client_port
        self.server_address = str(ip_address(flow.server_address)).encode()
        self.server_port: i64 = flow.server_port
        self.proxied_address: bytes | None = None
        self.proxied_port: i64 = 0
        self.user: bytes | None = None
        self.database: bytes | None = None
        self.application: bytes | None = None
        self.server_version: bytes | None = None
        self.process_id: i64 = -1
        self.encoded = b""

    def proxied(self, address: bytes, port: i64) -> None:
        """A PROXY header named the true client."""
        self.proxied_address = str(ip_address(address)).encode()
        self.proxied_port = port
        self.encoded = b""

    def changed(self) -> None:
        """A field was set."""
        self.encoded = b""

    def json(self) -> bytes:
        """The envelope's members from session_id to backend_pid."""
        if len(self.encoded) == 0:
            self.encoded = self._encode()
        return self.encoded

    def _encode(self) -> bytes:
        w = BytesWriter()
        w.write(b'"session_id":"' + self.session_id + b'","network":')
        write_string(w, self.network)
        w.write(b',"vni":')
        if self.vni >= 0:
            write_int(w, self.vni)
        else:
            w.write(b"null")
        address = self.proxied_address
        w.write(b',"client_address":"')
        w.write(self.peer_address if address is None else address)
        w.write(b'","client_port":')
        write_int(w, self.peer_port if address is None else self.proxied_port)
        w.write(b',"server_address":"' + self.server_address + b'","server_port":')
        write_int(w, self.server_port)
        if address is None:
            w.write(b',"proxy_address":null,"proxy_port":null,"user":')
        else:
            w.write(b',"proxy_address":"' + self.peer_address + b'","proxy_port":')
            write_int(w, self.peer_port)
            w.write(b',"user":')
        _optional(w, self.user)
        w.write(b',"database":')
        _optional(w, self.database)
        w.write(b',"application_name":')
        _optional(w, self.application)
        w.write(b',"server_version":')
        _optional(w, self.server_version)
        w.write(b',"backend_pid":')
        if self.process_id >= 0:
            write_int(w, self.process_id)
        else:
            w.write(b"null")
        return w.getvalue()
