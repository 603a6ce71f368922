"""The settings of a session that say on whose behalf it acts: role, session authorization, search_path.

PostgreSQL undoes SET when its transaction is rolled back, to a savepoint too, and SET LOCAL at the end of any
transaction; so values are kept with the state that a rollback returns to. What a lost byte may have changed
is not known any more, and said so, until something proves it again.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.sqlfacts import (
    DISCARD_ALL,
    RELEASE,
    RESET_ALL,
    ROLLBACK_TO,
    SAVEPOINT,
    SET_LOCAL_ROLE,
    SET_LOCAL_SEARCH_PATH,
    SET_LOCAL_SESSION_AUTHORIZATION,
    SET_ROLE,
    SET_SEARCH_PATH,
    SET_SESSION_AUTHORIZATION,
    SET_UNKNOWN,
)

__all__ = ["SettingsState", "option_value"]

# Savepoints remembered in one transaction; beyond it the settings count as unknown after a rollback.
MAX_SAVEPOINTS: Final = 1000


class _Values:
    """One set of values. `known` is False for a role that may be any."""

    def __init__(
        self, role: bytes | None, authorization: bytes | None, path: bytes | None, known: bool
    ) -> None:
        self.role = role
        self.authorization = authorization
        self.path = path
        self.known: bool = known

    def copy(self) -> "_Values":
        return _Values(self.role, self.authorization, self.path, self.known)


class _Savepoint:
    def __init__(self, name: bytes, current: _Values, lasting: _Values) -> None:
        self.name = name
        self.current = current
        self.lasting = lasting


class SettingsState:
    """What SET ROLE, SET SESSION AUTHORIZATION and SET search_path have come to."""

    def __init__(self) -> None:
        self.login: bytes | None = None
        self.default_path: bytes | None = None
        self.default_role: bytes | None = None
        self.current = _Values(None, None, None, True)
        self.lasting = self.current  # what a commit makes permanent
        self.committed = self.current  # what a rollback returns to
        self.savepoints: list[_Savepoint] = []
        self.dirty: bool = False  # something changed in the running transaction

    def logged_in(self, user: bytes | None, path: bytes | None, role: bytes | None) -> None:
        """A session begins for `user`; `path` and `role` are what its startup packet sets."""
        self.login = user
        self.default_path = path
        self.default_role = None if role is None or role.lower() == b"none" else role
        self.current = _Values(self.default_role, None, path, user is not None)
        self.lasting = self.current
        self.committed = self.current

    def role(self) -> bytes | None:
        """The role whose rights apply now; None if it is not known."""
        current = self.current
        if not current.known:
            return None
        if current.role is not None:
            return current.role
        if current.authorization is not None:
            return current.authorization
        return self.login

    def path(self) -> bytes | None:
        """The search_path, None if it was not seen."""
        return self.current.path

    def forget(self) -> None:
        """Bytes were lost in which anything may have been set."""
        self.current = _Values(None, None, None, False)
        self.lasting = self.current
        self.committed = self.current
        self.savepoints = []
        self.dirty = False

    def report(self, name: bytes, value: bytes, idle: bool) -> None:
        """A ParameterStatus: what the server itself says. `idle`: outside of any transaction."""
        if name == b"session_authorization":
            self._own()
            for values in (self.current, self.lasting):
                if values.authorization != value:
                    values.authorization = value
        elif name == b"search_path":
            self._own()
            self.current.path = value
            self.lasting.path = value
        if idle:
            self.transaction_ended(True)

    def _own(self) -> None:
        """Before a change: give the values that share one object one of their own each."""
        self.dirty = True
        if self.current is self.lasting:
            self.lasting = self.current.copy()
        if self.lasting is self.committed or self.current is self.committed:
            self.committed = self.committed.copy()
            self.current = self.current.copy()
            self.lasting = self.lasting.copy()

    def apply(self, code: i64, name: bytes | None, argument: bytes | None) -> None:
        """A statement with this effect (see `sqlfacts`) succeeded."""
        if code == SAVEPOINT:
            if len(self.savepoints) < MAX_SAVEPOINTS:
                self.savepoints.append(
                    _Savepoint(b"" if name is None else name, self.current.copy(), self.lasting.copy())
                )
            return
        if code == ROLLBACK_TO or code == RELEASE:
            self._to_savepoint(b"" if name is None else name, code == ROLLBACK_TO)
            return
        if code > DISCARD_ALL:
            return  # no matter of settings
        self._own()
        current = self.current
        lasting = self.lasting
        if code == SET_ROLE:
            current.role = name
            lasting.role = name
            current.known = self._proven(name, current.known)
            lasting.known = self._proven(name, lasting.known)
        elif code == SET_LOCAL_ROLE:
            current.role = name
            current.known = self._proven(name, current.known)
        elif code == SET_SESSION_AUTHORIZATION:
            # It also resets the role (PostgreSQL manual, SET SESSION AUTHORIZATION).
            for values in (current, lasting):
                values.authorization = name
                values.role = None
                values.known = name is not None or self.login is not None
        elif code == SET_LOCAL_SESSION_AUTHORIZATION:
            current.authorization = name
            current.role = None
            current.known = name is not None or self.login is not None
        elif code == SET_SEARCH_PATH:
            path = self.default_path if argument is None else argument
            current.path = path
            lasting.path = path
        elif code == SET_LOCAL_SEARCH_PATH:
            current.path = self.default_path if argument is None else argument
        elif code == SET_UNKNOWN:
            for values in (current, lasting):
                # Without a name it may be any of them.
                if name is None or name == b"search_path":
                    values.path = None
                if name is None or name != b"search_path":
                    values.known = False
        elif code == DISCARD_ALL:
            for values in (current, lasting):
                values.role = None
                values.authorization = None
                values.path = self.default_path
                values.known = self.login is not None
        elif code == RESET_ALL:
            # RESET ALL leaves role and session authorization alone (they are marked GUC_NO_RESET_ALL).
            for values in (current, lasting):
                values.path = self.default_path

    def _proven(self, role: bytes | None, known: bool) -> bool:
        """Whether the role is known after SET ROLE; None is NONE or the startup packet's."""
        return role is not None or (known and self.default_role is None)

    def configured(self, name: bytes | None, value: bytes | None, local: bool) -> None:
        """set_config(name, value, local) succeeded; None: the value was not seen."""
        if value is None:
            self.apply(SET_UNKNOWN, name, None)
        elif name == b"search_path":
            self.apply(SET_LOCAL_SEARCH_PATH if local else SET_SEARCH_PATH, None, value)
        elif name == b"role":
            role = None if value.lower() == b"none" else value
            self.apply(SET_LOCAL_ROLE if local else SET_ROLE, role, None)
        else:
            self.apply(SET_LOCAL_SESSION_AUTHORIZATION if local else SET_SESSION_AUTHORIZATION, value, None)

    def _to_savepoint(self, name: bytes, undo: bool) -> None:
        at: i64 = len(self.savepoints) - 1
        while at >= 0:
            savepoint = self.savepoints[at]
            if savepoint.name == name:
                if undo:
                    self.current = savepoint.current.copy()
                    self.lasting = savepoint.lasting.copy()
                    self.savepoints = self.savepoints[: at + 1]
                else:
                    self.savepoints = self.savepoints[:at]
                return
            at -= 1
        if undo and self.dirty:
            self.current = _Values(None, None, None, False)
            self.lasting = self.current.copy()

    def transaction_ended(self, committed: bool) -> None:
        """The transaction is over."""
        if self.dirty:
            self.dirty = False
            if committed:
                self.committed = self.lasting
            self.current = self.committed
            self.lasting = self.committed
        if len(self.savepoints) > 0:
            self.savepoints = []


def option_value(options: bytes, name: bytes) -> bytes | None:
    """What the startup parameter `options` sets `name` to: -c name=value or --name=value, the last one."""
    found: bytes | None = None
    words = options.replace(b"\\\\", b"\\\x00").replace(b"\\ ", b"\x00\x00").split()
    for word in words:
        setting, equals, value = word.removeprefix(b"-c").removeprefix(b"--").partition(b"=")
        if equals and setting.replace(b"-", b"_").lower() == name:
            found = value.replace(b"\x00\x00", b" ").replace(b"\\\x00", b"\\")
    return found
