"""The exception tree.

    LiteJoinError                       code, hint, retriable
    ├── ConfigError                     LJ-CFG: the config cannot be used (exit 2)
    ├── PathError (a ValueError)        LJ-PATH: a path is not well formed; carries the offset
    ├── JsonError (a ValueError)        LJ-JSON: bytes that are not usable JSON; carries the offset
    ├── StartRefusedError               LJ-START: version, shard count, file or address (exit 4)
    ├── DataDirInUseError               LJ-LOCK: another process holds the data_dir (exit 3)
    ├── SourceError                     LJ-SRC: a poll or a push could not be used
    │   ├── BadRowError                 LJ-ROW: a pushed row is refused; carries the row index
    │   └── PollError                   LJ-POLL: one poll failed; nothing was changed
    ├── RequestError                    LJ-HTTP: an HTTP request is refused; carries the status
    ├── OverloadedError                 LJ-BUSY: a bounded queue is full; retry later
    ├── StorageError                    LJ-SQL: SQLite said no; carries the extended result code
    │   ├── StorageFullError            LJ-FULL: no space left; nothing acked, recovers by itself
    │   ├── StorageIOError              LJ-IO: I/O error; fatal for the process
    │   ├── ShardQuarantinedError       LJ-SHARD: a key's shard is out of service; retry later
    │   ├── ObjectStoreError            LJ-CLOUD: the archive's object store refused, or is away
    │   └── CorruptionError             LJ-CORRUPT: a checksum or SQLite's own check failed
    ├── ReplicaError                    LJ-REPLICA: the replica of the data files cannot be had
    ├── QueryError                      LJ-QUERY: a user query failed or ran too long
    └── SinkError                       LJ-SINK: a sink cannot work as configured (exit 4)

Every class has a unique `code`; registering one twice fails at import. A message says what happened
and where, `hint` what to do. Modules return or raise these, never log and go on.
"""

from typing import ClassVar

_codes: dict[str, type["LiteJoinError"]] = {}


class LiteJoinError(Exception):
    """Base of all errors of LiteJoin."""

    code: ClassVar[str] = "LJ-ERR"
    retriable: ClassVar[bool] = False
    hint: str = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.code in _codes:
            raise TypeError(f"error code {cls.code} is used by {_codes[cls.code].__name__} already")
        _codes[cls.code] = cls

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


def error_classes() -> dict[str, type[LiteJoinError]]:
    """All error classes by code, for the generated reference page."""
    return dict(_codes)


class ConfigError(LiteJoinError):
    """The config file cannot be used; `litejoin validate` shows every finding with its position."""

    code = "LJ-CFG"


class PathError(LiteJoinError, ValueError):
    """A gjson path or an ignore_fields path is not well formed. `offset`: character in the path."""

    code = "LJ-PATH"

    def __init__(self, message: str, *, offset: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.offset = offset


class JsonError(LiteJoinError, ValueError):
    """Bytes from outside are not strict JSON, or more than is compared. `offset`: byte, from 0."""

    code = "LJ-JSON"

    def __init__(self, message: str, *, offset: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.offset = offset


class StartRefusedError(LiteJoinError):
    """The data directory, SQLite, an address or a certificate is not what a start needs."""

    code = "LJ-START"


class DataDirInUseError(LiteJoinError):
    """Another process holds the data directory's lock."""

    code = "LJ-LOCK"


class SourceError(LiteJoinError):
    """A source could not deliver."""

    code = "LJ-SRC"


class BadRowError(SourceError):
    """One row of a pushed batch is refused, and with it the whole batch.

    `row` is the index of the row in the request, from 0; None when the body as a whole is bad.
    """

    code = "LJ-ROW"

    def __init__(self, message: str, *, row: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.row = row


class PollError(SourceError):
    """A poll failed; the topic and the diff state are as before."""

    code = "LJ-POLL"
    retriable = True


class RequestError(LiteJoinError):
    """An HTTP request is refused; `status` and `headers` are those of the answer."""

    code = "LJ-HTTP"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.headers = headers


class OverloadedError(LiteJoinError):
    """A bounded queue is full. The caller keeps the data and retries after `retry_after_s`."""

    code = "LJ-BUSY"
    retriable = True

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageError(LiteJoinError):
    """SQLite refused. `extended` is its extended result code, `shard` the shard (-1: none)."""

    code = "LJ-SQL"

    def __init__(self, message: str, *, extended: int = 0, shard: int = -1, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.extended = extended
        self.shard = shard


class StorageFullError(StorageError):
    """The disk is full; the batch was rolled back or its fate is unknown: it can be sent again."""

    code = "LJ-FULL"
    retriable = True


class StorageIOError(StorageError):
    """An I/O error during a write. A failed COMMIT may still be durable: the process must end."""

    code = "LJ-IO"


class ShardQuarantinedError(StorageError):
    """The shard of a key is damaged and out of service; others run. Nothing was stored; rows can be
    sent again once the shard is repaired.
    """

    code = "LJ-SHARD"
    retriable = True


class ObjectStoreError(StorageError):
    """The object store of the archive cannot be reached, refused, or gave back other bytes. Nothing
    is lost: what is not copied is kept on this machine, and tried again.
    """

    code = "LJ-CLOUD"
    retriable = True


class CorruptionError(StorageError):
    """A stored row or a database page is not what was written."""

    code = "LJ-CORRUPT"


class ReplicaError(LiteJoinError):
    """The replica of the data files cannot be asked, or does not give what it has."""

    code = "LJ-REPLICA"
    retriable = True


class QueryError(LiteJoinError):
    """A user's query failed, ran too long or used too much memory. `extended`: SQLite's result
    code.
    """

    code = "LJ-QUERY"

    def __init__(self, message: str, *, extended: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.extended = extended


class SinkError(LiteJoinError):
    """A sink can never work as it is configured."""

    code = "LJ-SINK"
