"""The one place that imports obstore: the archive's objects in S3, Google Cloud Storage or Azure.

Used by the process that copies files and by queries, each without an event loop. Every method
blocks, for as long as the time-outs and retries here allow. What goes wrong is an ObjectStoreError
without the query strings of URLs, which may hold a signature.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from litejoin.archive.files import FileHash
from litejoin.errors import ConfigError, ObjectStoreError
from litejoin.plain_files import check_plain
from litejoin.plan.nodes import CloudPlan

PART_BYTES = 8 * 1024 * 1024
"""Larger files are sent in parts of this size, one at a time: what an upload holds in memory."""

READ_BYTES = 1024 * 1024
TIMEOUTS = {"connect_timeout": "10s", "read_timeout": "30s", "timeout": "10m"}
"""Of a connection, of silence, and of one request with its body."""

MAX_RETRIES = 3
RETRY_TIMEOUT = timedelta(seconds=60)
"""Of one request that failed in a way that may pass; the next round tries the file again."""

UNMADE = "litejoin-probe"
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
"""In the answers of S3, Azure and Google when not only the object is missing."""

MAX_MESSAGE = 300
_QUERY_STRING = re.compile(r"(https?://[^\s?\"')]*)\?[^\s\"')]*")


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Which bucket, and how to get in. `options` are credentials by obstore's names; what they lack
    comes from the environment, as each provider's own tools take it.
    """

    provider: str
    bucket: str
    prefix: str = ""
    region: str = ""
    endpoint: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """For messages."""
        at = f" at {self.endpoint}" if self.endpoint else ""
        return f"{self.provider} bucket {self.bucket}{at}"


def settings_of(cloud: CloudPlan) -> CloudSettings:
    """The settings that a config makes, credentials in clear: not to be shown."""
    return CloudSettings(
        cloud.provider,
        cloud.bucket,
        cloud.prefix,
        cloud.region,
        cloud.endpoint,
        {name: str(value) for name, value in cloud.options.items()},
    )


class ObjectStore:
    """One bucket. One thread at a time. Raises ObjectStoreError, and ConfigError where obstore is
    missing or refuses the settings.
    """

    def __init__(self, settings: CloudSettings, timeout_s: float | None = None) -> None:
        """`timeout_s`: of every request, which is then tried once."""
        self._module = load_obstore()
        self._where = settings.where
        self._store = _open(self._module, settings, timeout_s)

    def reach(self) -> None:
        """Ask for an object that nobody made. Raises ObjectStoreError unless the bucket is there
        and may be read.
        """
        with self._failing(UNMADE):
            try:
                self._module.get(self._store, UNMADE)
            except FileNotFoundError as error:
                if any(code in str(error) for code in _NO_BUCKET):
                    message = f"archive: {self._where}: there is no such bucket"
                    raise ObjectStoreError(message) from None

    def put(self, name: str, path: Path) -> None:
        """Make the file the object `name`, whatever was there: all of it, or nothing."""
        with self._failing(name):
            self._module.put(self._store, name, path, chunk_size=PART_BYTES, max_concurrency=1)

    def pieces(self, name: str) -> Iterator[memoryview]:
        """The object's bytes."""
        with self._failing(name):
            stream = self._module.get(self._store, name).stream(min_chunk_size=READ_BYTES)
            for piece in stream:
                yield memoryview(piece)

    def hash(self, name: str) -> tuple[int, int]:
        """Size and hash of the object, read back as a whole."""
        found = FileHash()
        for piece in self.pieces(name):
            found.update(piece)
        return found.result()

    def get(self, name: str, path: Path) -> bool:
        """Write the object into a new file; False when there is none."""
        with self._failing(name):
            try:
                found = self._module.get(self._store, name)
            except FileNotFoundError:
                return False
            with path.open("xb") as file:
                file.writelines(found.stream(min_chunk_size=READ_BYTES))
        return True

    def delete(self, name: str) -> None:
        """Delete an object; does nothing when there is none."""
        with self._failing(name):
            try:
                self._module.delete(self._store, name)
            except FileNotFoundError:
                return

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """What obstore and the network raise, as one error."""
        try:
            yield
        except (self._module.exceptions.BaseError, OSError) as error:
            raise ObjectStoreError(
                f"archive: {self._where}: {name}: {_first_line(error)}",
                hint=_hint(error),
            ) from None


def load_obstore() -> Any:
    """The package, imported now. Raises ConfigError with the command that installs it."""
    try:
        # Imported here: only who copies the archive pays for it.
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise ConfigError(
            f"storage.archive.cloud needs the package obstore ({error})",
            hint="pip install 'litejoin[cloud]'",
        ) from None
    return obstore


def _open(module: Any, settings: CloudSettings, timeout_s: float | None) -> Any:
    stores = module.store
    is_plain = settings.endpoint.startswith("http://")
    timeouts, retries = TIMEOUTS, MAX_RETRIES
    if timeout_s is not None:
        timeouts, retries = dict.fromkeys(TIMEOUTS, f"{timeout_s:g}s"), 0
    options: dict[str, Any] = {
        "prefix": settings.prefix or None,
        "client_options": {**timeouts, "allow_http": is_plain},
        "retry_config": {"max_retries": retries, "retry_timeout": RETRY_TIMEOUT},
        **settings.options,
    }
    try:
        check_plain(settings.options.get("service_account"))
        if settings.provider == "gcs":
            return stores.GCSStore(settings.bucket, **_gcs(settings, is_plain=is_plain), **options)
        if settings.endpoint:
            options["endpoint"] = settings.endpoint
        if settings.provider == "azure":
            return stores.AzureStore(settings.bucket, **options)
        if settings.region:
            options["region"] = settings.region
        return stores.S3Store(settings.bucket, **options)
    except (module.exceptions.BaseError, OSError, ValueError) as error:
        raise ConfigError(f"storage.archive.cloud: {_first_line(error)}") from None


def _gcs(settings: CloudSettings, *, is_plain: bool) -> dict[str, str]:
    if not settings.endpoint:
        return {}
    if not is_plain:
        return {"base_url": settings.endpoint}
    # Without TLS it is no store of Google's: a token must not go there.
    account = {
        "gcs_base_url": settings.endpoint, "disable_oauth": True,
        "client_email": "", "private_key": "", "private_key_id": "",
    }  # fmt: skip
    return {"service_account_key": json.dumps(account)}


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return _QUERY_STRING.sub(r"\1?...", line)[:MAX_MESSAGE]


def _hint(error: BaseException) -> str:
    kind = type(error).__name__
    if kind in ("PermissionDeniedError", "UnauthenticatedError"):
        return "check the credentials and what they may do in the bucket: put, get and delete"
    if isinstance(error, FileNotFoundError):
        return "check that the bucket exists"
    return "the file is kept on this machine meanwhile, and is copied when the store answers again"
