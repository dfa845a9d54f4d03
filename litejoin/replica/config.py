"""Which files are replicated, and the litestream.yml that says so.

Called by the runtime at start and by `litejoin restore`. Credentials are never written: Litestream
takes them from its own environment, and `${NAME}` in `replica_url` is left for it to expand.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from litejoin.errors import ConfigError
from litejoin.plan.nodes import ReplicationPlan
from litejoin.store.files import replace_file
from litejoin.store.layout import Layout

MIN_CHECKPOINT_PAGES = 4_000
"""16 MB of log before Litestream copies it back. It holds up the file's writer meanwhile, so rather
a few times than at each sync, as its default of 1,000 would."""

TRUNCATE_PAGES = 121_359
"""500 MB of log, Litestream's default: then it waits for readers, and copies the whole file to the
replica once more, holding the write lock meanwhile."""

SCHEMES = {"gcs": "gs", "azure": "abs"}
"""What Litestream calls them."""

SOCKET = "litestream.sock"
MAX_SOCKET_PATH = 100
"""Of the 108 bytes that the kernel takes."""


def replicated_files(layout: Layout, shard_count: int, dlq: Path) -> dict[str, Path]:
    """By their name at the replica. The catalogue comes first: it tells whose the others are."""
    paths = [layout.catalogue, *(layout.shard(n) for n in range(shard_count)), layout.state]
    return {path.name: path for path in paths} | {"dlq.db": dlq}


def config_path(layout: Layout) -> Path:
    """Where LiteJoin writes the configuration of Litestream."""
    return layout.root / "litestream.yml"


def socket_path(layout: Layout) -> Path | None:
    """Litestream's control socket; None where its path would be too long."""
    path = layout.root.absolute() / SOCKET
    return path if len(str(path).encode()) <= MAX_SOCKET_PATH else None


def replica_url(plan: ReplicationPlan, name: str) -> str:
    """Where the replica of one file is, as written in the config."""
    url, mark, query = plan.written_url.partition("?")
    scheme, separator, rest = url.partition("://")
    scheme = SCHEMES.get(scheme, scheme)
    return f"{scheme}{separator}{rest.rstrip('/')}/{name}{mark}{query}"


def litestream_yml(
    plan: ReplicationPlan, files: Mapping[str, Path], socket: Path | None, shutdown_s: float
) -> str:
    """The configuration of Litestream 0.5. Values are JSON, which is YAML.

    Raises ConfigError for a `$` that Litestream would take for a variable.
    """
    control = {"enabled": socket is not None}
    lines = [
        "# Written by litejoin at each start: what is changed here is lost.",
        f"logging: {json.dumps({'level': 'info', 'type': 'json', 'stderr': True})}",
        f"socket: {json.dumps({**control, 'path': str(socket)} if socket else control)}",
        f"sync-interval: {plan.sync_interval_ms}ms",
        f"snapshot: {{interval: {plan.snapshot_interval_ms}ms, retention: {plan.retention_ms}ms}}",
        f"shutdown-sync-timeout: {round(shutdown_s * 1000)}ms",
        "dbs:",
    ]
    for name, path in files.items():
        full = str(path.absolute())
        if plan.expands and "$" in full:
            raise ConfigError(
                f"replication: Litestream would expand the $ in {full}",
                hint="write replica_url without ${..}, or give the directory another name",
            )
        lines += [
            f"  - path: {json.dumps(full)}",
            f"    min-checkpoint-page-count: {MIN_CHECKPOINT_PAGES}",
            f"    truncate-page-n: {TRUNCATE_PAGES}",
            f"    replica: {{url: {json.dumps(replica_url(plan, name))}}}",
        ]
    return "\n".join(lines) + "\n"


def write_config(path: Path, text: str) -> None:
    """Put it in place, for the owner's eyes only."""
    replace_file(path, text.encode())


def arguments(plan: ReplicationPlan, command: str, config: Path) -> list[str]:
    """A Litestream command with this configuration, without the name of the program."""
    options = [] if plan.expands else ["-no-expand-env"]
    return [command, "-config", str(config.absolute()), *options]


def start_line(plan: ReplicationPlan, config: Path) -> str:
    """What starts Litestream beside LiteJoin, for a shell."""
    return shlex.join(["litestream", *arguments(plan, "replicate", config)])
