"""A process that dies at any step of a compaction, merge or deletion loses no row."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from litejoin.archive.cache import CloudFiles
from litejoin.archive.cloud import ObjectStore
from litejoin.archive.duck import Duck
from litejoin.archive.tiers import Tiers
from litejoin.store.layout import Layout
from tests.harness.archive import HOUR_MS, KILLED, NOW_MS, ROUND_ROWS, Archive, round_rows
from tests.harness.object_stores import StoreServer


@contextmanager
def player(*arguments: str) -> Iterator[Callable[[int], bool]]:
    """Plays rounds, each in a process; True when it got as far as the step, and died there."""
    command = [sys.executable, "-m", "tests.harness.archive", *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )

    def play_until(step: int) -> bool:
        assert process.stdin and process.stdout
        process.stdin.write(f"{step}\n")
        code = int(process.stdout.readline())
        assert code in (0, KILLED)
        return code == KILLED

    with process:
        yield play_until
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def killed_before(tmp_path: Path) -> Iterator[Callable[[int], bool]]:
    with player(str(tmp_path / "data")) as play_until:
        yield play_until


@pytest.fixture
def server() -> Iterator[StoreServer]:
    server = StoreServer("s3")
    yield server
    server.stop()


def test_a_kill_at_any_step_loses_no_row(
    tmp_path: Path, killed_before: Callable[[int], bool]
) -> None:
    data_dir = tmp_path / "data"
    archive, duck, current = Archive(data_dir), Duck(64 << 20, tmp_path), dict[str, str]()
    step, is_killed = 0, True
    while is_killed:
        step += 1
        archive.write(round_rows(step))
        current.update((key, payload) for key, payload, _ in round_rows(step))
        # Of the round before, and not written again.
        for key in (f"k{(step - 1) * ROUND_ROWS // 2 + n}" for n in range(3)):
            archive.delete(key)
            current.pop(key, None)
        wanted = kept(archive)
        archive.close()
        is_killed = killed_before(step)
        archive = Archive(data_dir)
        assert archive.opened["missing"] == [], f"step {step}"
        assert kept(archive) == wanted, f"step {step}"
        assert all_rows(archive, duck) == current, f"step {step}"
    assert step > 25
    # What was left half done has been finished by the rounds that followed.
    assert (archive.hot(), archive.deletes()) == ([], [])
    assert set(archive.archived().values()) == {1}
    archive.worker.upkeep(NOW_MS + 9 * HOUR_MS)
    root = archive.paths.root
    on_disk = {str(path.relative_to(root)) for path in root.glob("t*/*/*.parquet")}
    assert on_disk == {file.name for file in archive.files()}
    archive.close()
    duck.close()


def kept(archive: Archive) -> set[tuple[str, str]]:
    """Versions by key and payload, deletes too, wherever they are."""
    versions = {row[:2] for row in (*archive.archived(), *archive.hot())}
    return versions | {(key, "") for key in archive.deletes()}


def all_rows(archive: Archive, duck: Duck, server: StoreServer | None = None) -> dict[str, str]:
    cloud = None
    if server:
        cloud = CloudFiles(archive.paths.cache, partial(ObjectStore, server.settings), 1 << 30)
    tiers = Tiers(Layout(archive.paths.root.parent), 2, duck, cloud=cloud)
    try:
        return dict(tiers.all_rows(archive.topic).execute("SELECT key, payload FROM rows"))
    finally:
        tiers.close()


def test_a_kill_at_any_step_of_a_copy_loses_no_row(tmp_path: Path, server: StoreServer) -> None:
    data_dir, wanted = tmp_path / "data", dict[str, str]()
    duck = Duck(64 << 20, tmp_path)
    step, is_killed = 0, True
    with player(str(data_dir), json.dumps(asdict(server.settings))) as killed_before:
        while is_killed:
            step += 1
            archive = Archive(data_dir, keeps_copies=True)
            archive.write(round_rows(step))
            wanted.update((key, payload) for key, payload, _ in round_rows(step))
            archive.close()
            is_killed = killed_before(step)
            archive = Archive(data_dir, keeps_copies=True)
            assert archive.opened["missing"] == [], f"step {step}"
            assert all_rows(archive, duck, server) == wanted, f"step {step}"
            archive.close()
    assert step > 25
    archive = Archive(data_dir, keeps_copies=True)
    archive.copies(server.settings).delete_dropped(NOW_MS + 9 * HOUR_MS)
    archive.worker.upkeep(NOW_MS + 9 * HOUR_MS)
    # Nothing is left there that nothing needs, whatever was being sent when a process died.
    assert set(server.objects()) == {file.name for file in archive.files()}
    assert all_rows(archive, duck, server) == wanted
    archive.close()
    duck.close()
