"""A reader of somebody else's, with another SQLite, that holds a transaction while rows are
written: it sees one moment, nobody waits for it, and the log that it kept is cut when it ends.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from litejoin._ext.route import shard_of
from litejoin.store.checkpoint import RESTART_PAGES
from litejoin.store.shard import PAGE_BYTES
from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually

HOLD_S = float(os.environ.get("LITEJOIN_TEST_READER_S", "6"))
"""How long the transaction is held; `make soak` says 60."""

SHARDS = 2
LOG_BYTES = RESTART_PAGES * PAGE_BYTES
SLACK_BYTES = 8 * 1024 * 1024
"""A flush that began below the bound may end above it."""

TEXT = "x" * 50_000
KEYS = [[f"k{n}" for n in range(100) if shard_of(b"k%d" % n, SHARDS) == s][:20] for s in (0, 1)]
READ = """
import sqlite3, sys
connections = [sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:]]
for line in sys.stdin:
    for c in connections:
        if line.strip() != "LOOK":
            c.execute(line)
    [(versions,)] = connections[0].execute(
        "SELECT group_concat(payload ->> '$.n') FROM (SELECT payload FROM t1 ORDER BY key)")
    [(head,)] = connections[1].execute("SELECT value FROM meta WHERE name = 'head'")
    print(versions, head, flush=True)
"""


class Reader:
    """A process with Python's own sqlite3."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", READ, *map(str, paths)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, statement: str) -> str:
        """Run a statement, and say what is to be seen then."""
        sent, got = self._process.stdin, self._process.stdout
        assert sent and got
        print(statement, file=sent, flush=True)
        seen = got.readline()
        assert seen, "the reader failed"
        return seen

    def close(self) -> None:
        sent, got = self._process.stdin, self._process.stdout
        assert sent and got
        sent.close()
        assert self._process.wait(20) == 0
        got.close()


class Story:
    """A pipeline, and versions of keys of both shards."""

    def __init__(self, launch: Launcher) -> None:
        self.at = Listener()
        config = push_config(
            self.at, {"rows": "SELECT key, payload ->> '$.n' AS n FROM t"},
            storage={"shard_count": SHARDS},
        )  # fmt: skip
        self.pipeline = launch(config, self.at.health)
        self.data = self.pipeline.work_dir / "data"
        self.version = 0

    def log_bytes(self, name: str) -> int:
        return (self.data / f"{name}.db-wal").stat().st_size

    def push(self, text: str = TEXT) -> None:
        """The next version of every key."""
        self.version += 1
        rows: list[dict[str, Any]] = [
            message("t", key, {"n": self.version, "text": text}) for keys in KEYS for key in keys
        ]
        with IngestClient(self.at.url) as client:
            client.send(rows)

    def is_right(self) -> bool:
        shown = {r["key"]: r["rows"][0]["n"] for r in snapshot(self.at.url, "rows").results}
        return shown == dict.fromkeys((key for keys in KEYS for key in keys), self.version)


@pytest.mark.slow
def test_a_foreign_reader_sees_one_moment_and_leaves_no_log_behind(launch: Launcher) -> None:
    story = Story(launch)
    story.push()
    eventually(story.is_right)
    reader = Reader([story.data / "shard-0000.db", story.data / "state.db"])
    seen = reader("BEGIN")
    until = time.monotonic() + HOLD_S
    while time.monotonic() < until or story.log_bytes("shard-0000") < 1.5 * LOG_BYTES:
        # Enough to pass the bound, and then a little all the time.
        story.push(TEXT if story.log_bytes("shard-0000") < 2 * LOG_BYTES else "")
        assert story.log_bytes("shard-0001") < LOG_BYTES + SLACK_BYTES, "it is nobody's"
        assert reader("LOOK") == seen, "one moment, as long as the transaction lasts"
    eventually(story.is_right)
    grown = story.log_bytes("shard-0000")
    assert reader("COMMIT") != seen

    def is_cut() -> bool:
        story.push()
        return story.log_bytes("shard-0000") < LOG_BYTES + SLACK_BYTES

    eventually(is_cut, 60)
    assert grown > 1.4 * LOG_BYTES
    eventually(story.is_right)
    assert reader("LOOK").startswith(",".join([str(story.version)] * len(KEYS[0])))
    reader.close()
    assert story.pipeline.stop() == 0
