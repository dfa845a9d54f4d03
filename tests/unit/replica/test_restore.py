"""Which files are fetched, what is refused, and that a crash in between is gone on from."""

import shutil
from pathlib import Path

import apsw
import pytest

from litejoin.errors import ReplicaError, StartRefusedError
from litejoin.replica.fetch import Found
from litejoin.replica.restore import Fetched, Target, fetch_missing
from litejoin.replica.settle import settle
from litejoin.store.layout import Layout
from litejoin.store.reshard import reshard
from litejoin.store.writer import ShardStore

SHARDS = 2


class FakeReplica:
    """The files of a directory that is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []
        self.is_away = False

    def look(self, path: Path) -> Found | None:
        return Found("1", 1) if (self.folder / path.name).exists() else None

    def fetch(self, path: Path, target: Path, timeout_s: float | None = None) -> bool:
        if self.is_away:
            raise ReplicaError("no answer")
        if not (self.folder / path.name).exists():
            return False
        shutil.copy(self.folder / path.name, target)
        self.fetched.append(path.name)
        return True


def directory(root: Path) -> Target:
    store = ShardStore.open(root, pipeline="p", shard_count=SHARDS, synchronous="full")
    store.create_topic("orders")
    store.close()
    return target_of(root)


def target_of(root: Path) -> Target:
    layout = Layout(root)
    names = ["catalogue.db", *(layout.shard(n).name for n in range(SHARDS)), "state.db", "dlq.db"]
    return Target(layout, SHARDS, layout.dlq, {name: root / name for name in names})


@pytest.fixture
def kept(tmp_path: Path) -> FakeReplica:
    """The replica of the directory `data`, which is there."""
    target = directory(tmp_path / "data")
    replicated = ShardStore.open(
        target.layout.root, pipeline="p", shard_count=SHARDS, synchronous="full",
        is_replicated=True,
    )  # fmt: skip
    replicated.close()
    # Closed as a whole, so that a plain copy of each file is a sound one.
    ShardStore.open(
        target.layout.root, pipeline="p", shard_count=SHARDS, synchronous="full"
    ).close()
    connection = apsw.Connection(str(target.layout.catalogue))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    folder = tmp_path / "replica"
    folder.mkdir()
    for path in target.layout.root.glob("*.db"):
        shutil.copy(path, folder / path.name)
    return FakeReplica(folder)


def fetched(target: Target, replica: FakeReplica) -> Fetched | None:
    return fetch_missing(target, replica, lambda text: None)  # type: ignore[arg-type]


def listing(root: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in root.iterdir() if path.name != "lock"}


def test_nothing_is_asked_for_when_no_shard_or_result_is_missing(
    kept: FakeReplica, tmp_path: Path
) -> None:
    target = target_of(tmp_path / "data")
    for path in (target.layout.state, target.layout.dlq):
        path.touch()
    kept.is_away = True
    assert fetched(target, kept) is None


def test_files_that_never_were_are_not_missed(kept: FakeReplica, tmp_path: Path) -> None:
    before = listing(tmp_path / "data")
    assert fetched(target_of(tmp_path / "data"), kept) is None
    assert listing(tmp_path / "data") == before


def test_an_empty_replica_lets_a_new_directory_begin(tmp_path: Path) -> None:
    (tmp_path / "replica").mkdir()
    assert fetched(target_of(tmp_path / "new"), FakeReplica(tmp_path / "replica")) is None
    assert listing(tmp_path / "new") == {}


@pytest.mark.parametrize("name", ["shard-0000.db", "shard-0001.db"])
def test_a_shard_that_the_replica_lacks_refuses_the_start(
    kept: FakeReplica, tmp_path: Path, name: str
) -> None:
    (kept.folder / name).unlink()
    (tmp_path / "data" / name).unlink()
    before = listing(tmp_path / "data")
    with pytest.raises(StartRefusedError, match=f"{name} is missing, and the replica has none"):
        fetched(target_of(tmp_path / "data"), kept)
    assert listing(tmp_path / "data") == before


def test_files_of_another_directory_are_refused_and_stay(kept: FakeReplica, tmp_path: Path) -> None:
    other = directory(tmp_path / "other")
    other.layout.shard(1).unlink()
    before = listing(tmp_path / "other")
    with pytest.raises(StartRefusedError, match="is not the directory that the replica was made"):
        fetched(other, kept)
    assert listing(tmp_path / "other") == before


def test_a_lost_manifest_comes_from_the_catalogue_but_not_for_foreign_shards(
    kept: FakeReplica, tmp_path: Path
) -> None:
    target = target_of(tmp_path / "data")
    text = target.layout.manifest.read_text()
    target.layout.manifest.unlink()
    found = fetched(target, kept)
    assert found is not None and found.manifest.text() == text
    other = directory(tmp_path / "other")
    other.layout.manifest.unlink()
    with pytest.raises(StartRefusedError, match="belongs to another data_dir"):
        fetched(other, kept)


def test_a_replica_of_other_shards_is_refused(kept: FakeReplica, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "new")
    names = ["catalogue.db", "shard-0000.db", "state.db", "dlq.db"]
    target = Target(layout, 1, layout.dlq, {name: layout.root / name for name in names})
    with pytest.raises(StartRefusedError, match="the replica has 2 shards, the config says 1"):
        fetched(target, kept)


def test_a_crash_before_all_is_settled_is_gone_on_from(kept: FakeReplica, tmp_path: Path) -> None:
    target = target_of(tmp_path / "data")
    target.layout.shard(1).unlink()
    assert fetched(target, kept) is not None
    # Here the process ends: the file is in its place, and nothing is settled.
    (tmp_path / "data" / "state.db.restoring").write_text("half a file")
    again = fetched(target, kept)
    assert again is not None and again.found == {"shard-0001.db": None}
    # Neither a start that does not restore nor a reshard takes it for one directory.
    with pytest.raises(StartRefusedError, match="the restore did not end"):
        directory(target.layout.root)
    with pytest.raises(StartRefusedError, match="the restore did not end"):
        reshard(target.layout, SHARDS + 1, "p", {}, print)
    assert not (tmp_path / "data" / "state.db.restoring").exists()
    settle(target, again, [])
    for path in (target.layout.state, target.layout.dlq):
        path.touch()
    assert fetched(target, kept) is None
    target.layout.state.unlink()
    directory(target.layout.root)


def test_shards_that_are_on_their_way_to_another_number_are_not_missed(
    kept: FakeReplica, tmp_path: Path
) -> None:
    target = target_of(tmp_path / "data")
    target.layout.reshard.mkdir()
    (target.layout.reshard / "progress.json").write_text("{}")
    target.layout.shard(1).unlink()
    before = listing(tmp_path / "data")
    with pytest.raises(StartRefusedError, match="change of the number of shards was not finished"):
        fetched(target, kept)
    assert listing(tmp_path / "data") == before
