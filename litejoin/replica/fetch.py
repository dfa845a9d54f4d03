"""Gets single files from the replica, with `litestream restore`. Blocking; any thread.

The configuration names the file, so no URL and nothing secret is among the arguments.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from litejoin.errors import ReplicaError
from litejoin.plan.nodes import ReplicationPlan
from litejoin.replica.binary import environment
from litejoin.replica.config import arguments

ASK_S = 30.0
"""Longest question. Litestream asks an object store that is not there for minutes."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the replica has of a file."""

    txid: str
    upto_ms: int
    """When the newest copied change was copied, Unix milliseconds, to the second."""


class Replica:
    """The replicas of one configuration."""

    def __init__(self, program: Path, plan: ReplicationPlan, config: Path, at: str | None) -> None:
        """`at`: as of that time (RFC 3339), not of the newest change."""
        self._program, self._config, self._plan = program, config, plan
        self._at = [] if at is None else ["-timestamp", at]

    def look(self, path: Path, timeout_s: float = ASK_S) -> Found | None:
        """What there is of a file of the configuration; None when there is nothing.

        Raises ReplicaError when the replica cannot be asked.
        """
        text = self._restore(path, path.with_name(path.name + ".not-made"), "-dry-run", timeout_s)
        if not text:
            return None
        newest = text["files"][-1]
        moment = datetime.fromisoformat(newest["timestamp"])
        return Found(str(text["max_txid"]), round(moment.timestamp() * 1000))

    def fetch(self, path: Path, target: Path, timeout_s: float | None = None) -> bool:
        """Write a file of the configuration to `target`, which must not exist; False when there is
        nothing. Raises ReplicaError.
        """
        return bool(self._restore(path, target, "-if-replica-exists", timeout_s))

    def _restore(
        self, path: Path, target: Path, option: str, timeout_s: float | None
    ) -> Mapping[str, Any]:
        command = [
            str(self._program), *arguments(self._plan, "restore", self._config), *self._at,
            "-json", "-if-replica-exists", *([option] if option == "-dry-run" else []),
            "-o", str(target.absolute()), str(path.absolute()),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=timeout_s, check=False, env=environment()
            )
        except subprocess.TimeoutExpired as error:
            raise ReplicaError(f"replica of {path.name}: no answer in {timeout_s:g} s") from error
        except OSError as error:
            raise ReplicaError(f"{self._program} does not run: {error}") from error
        out = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode == 0 and out.startswith("{"):
            found: dict[str, Any] = json.loads(out)
            return found
        said = done.stderr.decode("utf-8", "replace")
        if done.returncode == 0 or "no matching backup" in said:
            return {}
        lines = [line for line in said.splitlines() if line.startswith("Error:")]
        reason = (lines[-1] if lines else said.strip() or out).removeprefix("Error:").strip()
        raise ReplicaError(
            f"replica of {path.name}: {reason}",
            hint="check replication.replica_url, the network and the credentials",
        )


_CREDENTIALS = {
    "s3": (
        ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
         "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
         "LITESTREAM_ACCESS_KEY_ID"),
        ".aws/credentials",
    ),
    "gs": (
        ("GOOGLE_APPLICATION_CREDENTIALS",),
        ".config/gcloud/application_default_credentials.json",
    ),
    "abs": (
        ("LITESTREAM_AZURE_ACCOUNT_KEY", "AZURE_CLIENT_ID", "AZURE_STORAGE_ACCOUNT"),
        ".azure/accessTokens.json",
    ),
}  # fmt: skip


def has_credentials(url: str, env: Mapping[str, str] = os.environ) -> bool:
    """Was this process given credentials for the replica, or does it need none? Those of a
    Litestream beside it may be that one's alone.
    """
    scheme = {"gcs": "gs", "azure": "abs"}.get(url.partition("://")[0], url.partition("://")[0])
    names, file = _CREDENTIALS.get(scheme, ((), ""))
    if not names:
        return True
    return any(env.get(name) for name in names) or (Path.home() / file).exists()
