"""Probes of where copies go: the archive's bucket and the replica. Called by `connect`.

Asks for an object that nobody made, and what the replica has of one file; writes nothing, in the
data directory neither.
"""

import os
import tempfile
from pathlib import Path

from litejoin.archive.cloud import ObjectStore, settings_of
from litejoin.cli.probes import TIMEOUT_SECONDS, Level, Problem
from litejoin.errors import ConfigError, LiteJoinError
from litejoin.plan.compile import compile_cloud
from litejoin.plan.compile_replication import compile_replication
from litejoin.plan.nodes import ReplicationPlan
from litejoin.plan.section import Section
from litejoin.replica.binary import require_litestream
from litejoin.replica.config import config_path, litestream_yml, replicated_files
from litejoin.replica.fetch import Replica, has_credentials
from litejoin.store.layout import Layout


def archive_bucket(cloud: Section) -> str:
    """Is the bucket there, and do the credentials open it?"""
    plan = compile_cloud(cloud)
    assert plan is not None
    settings = settings_of(plan)
    try:
        ObjectStore(settings, timeout_s=TIMEOUT_SECONDS).reach()
    except LiteJoinError as error:
        raise Problem("fail", str(error).removeprefix("archive: ")) from None
    return f"{settings.where} can be read; nothing is written"


def replica(replication: Section) -> str:
    """Is Litestream there where LiteJoin starts it, and what does the replica have?"""
    plan = compile_replication(replication)
    assert plan is not None
    if plan.written_url.startswith("file://"):
        return _folder(plan)
    try:
        program = require_litestream()
    except ConfigError as error:
        # Beside LiteJoin it may run on another machine or in another container.
        level: Level = "fail" if plan.mode == "embedded" else "warn"
        raise Problem(level, f"not probed: {_told(error)}") from None
    if plan.mode == "sidecar" and not has_credentials(plan.written_url):
        raise Problem("warn", f"not probed: {plan.shown_url}: no credentials in this environment")
    return _asked(program, plan)


def _asked(program: Path, plan: ReplicationPlan) -> str:
    """Ask with a configuration of its own for a pipeline that is nowhere."""
    with tempfile.TemporaryDirectory(prefix="litejoin-probe-") as folder:
        layout = Layout(Path(folder))
        files = replicated_files(layout, 1, layout.root / "dlq.db")
        config = config_path(layout)
        config.write_text(litestream_yml(plan, files, None, TIMEOUT_SECONDS))
        try:
            found = Replica(program, plan, config, None).look(layout.catalogue, TIMEOUT_SECONDS)
        except LiteJoinError as error:
            raise Problem("fail", f"{plan.shown_url}: {_told(error)}") from None
    return f"{plan.shown_url} answers and has {'a' if found else 'no'} replica"


def _folder(plan: ReplicationPlan) -> str:
    folder = Path(plan.written_url.removeprefix("file://"))
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise Problem("fail", f"nothing can be created in {there}")
    return f"{folder} {'can be written' if there == folder else 'can be created'}"


def _told(error: LiteJoinError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)
