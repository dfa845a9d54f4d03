"""Sinks keep off every file of their pipeline; the list of those is that of the data directory."""

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from litejoin.config import load_config
from litejoin.errors import SinkError
from litejoin.own_files import is_of_database, is_stored
from litejoin.replica.config import config_path
from litejoin.replica.settle import report_path
from litejoin.sinks.paths import check_own_file
from litejoin.store.layout import Layout, wal_of
from tests.differential.window_pipeline import WindowPipeline
from tests.unit.plan.plans import shop_plan

DATA = PurePosixPath("/srv/data")
LAYOUT = Layout(Path("/srv/data"))
PATHS = [
    value
    for name, kind in vars(Layout).items()
    if isinstance(kind, property) and isinstance(value := getattr(LAYOUT, name), Path)
]


def test_all_paths_of_a_data_directory_are_known() -> None:
    assert len(PATHS) >= 10
    ours = [*PATHS, LAYOUT.shard(0), LAYOUT.shard(12_345), config_path(LAYOUT), report_path(LAYOUT)]
    databases = [path for path in ours if path.suffix == ".db"]
    ours += [wal_of(path) for path in databases]
    ours += [path.with_name(f".{path.name}-litestream") / "generations" for path in databases]
    ours += [path.with_name(path.name + ".tmp") for path in (LAYOUT.manifest, LAYOUT.marks)]
    ours += [LAYOUT.archive / "t1/a.parquet", LAYOUT.reshard / "shard-0000.db"]
    assert [path for path in ours if not is_stored(path, DATA)] == []


@pytest.mark.parametrize(
    "path",
    ["/srv/data", "/srv/out.db", "/srv/data/out.jsonl", "/srv/data/out/state.db", "/srv/state.db",
     "/srv/data2/state.db", "/srv/data/locks", "/srv/data/archives", "data/state.db"],
)  # fmt: skip
def test_other_paths_are_free(path: str) -> None:
    assert not is_stored(PurePosixPath(path), DATA)


def test_a_database_is_all_that_sqlite_keeps_of_it() -> None:
    dlq = PurePosixPath("/var/lib/q")
    names = ["q", "q-wal", "q-shm", "q-journal", "q.db", "q-wal2"]
    found = [name for name in names if is_of_database(dlq.with_name(name), dlq)]
    assert found == names[:4]
    assert not is_of_database(PurePosixPath("q"), dlq)


def test_a_running_pipeline_keeps_no_other_files(tmp_path: Path) -> None:
    """Of the lists above and what is there, neither is longer."""
    pipe = WindowPipeline(tmp_path / "data", [])
    found = [
        Path(folder) / name for folder, _, names in os.walk(tmp_path / "data") for name in names
    ]
    pipe.close()
    assert len(found) > 5
    assert [path for path in found if not is_stored(path, tmp_path / "data")] == []


def test_no_sink_writes_the_config_also_by_another_name(tmp_path: Path) -> None:
    config, other = tmp_path / "shop.yaml", tmp_path / "out.jsonl"
    config.touch()
    plan = replace(shop_plan(), file=str(config))
    check_own_file("out", other, plan)
    other.symlink_to(config)
    for path in (config, other):
        with pytest.raises(SinkError, match="not a file a sink may write"):
            check_own_file("out", path, plan)


def test_validate_tells_of_a_sink_that_would_write_the_config() -> None:
    text = """
sources: [{name: push, type: http, topics: [t], config: {addr: "127.0.0.1:8080"}}]
joins: [{name: j, query: SELECT key FROM t, sink: out}]
sinks: [{name: out, type: file, config: {path: ./conf/shop.yaml}}]
"""
    _, found = load_config(text, env={}, file="conf/shop.yaml")
    assert [(f.code, f.message) for f in found] == [
        ("LJ225", '"./conf/shop.yaml" is this config'),
    ]  # fmt: skip
    assert load_config(text, env={}, file="shop.yaml")[1] == []
