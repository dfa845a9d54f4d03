"""Files of the archive are copied into an object store, read back, and only then deleted here.

Against real servers of the three protocols, each behind a proxy that fails when it is told to.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from litejoin.archive import cloud
from litejoin.archive.cache import CloudFiles
from litejoin.archive.cloud import CloudSettings, ObjectStore
from litejoin.archive.copies import Copies
from litejoin.archive.duck import Duck
from litejoin.archive.manifest import Manifest
from litejoin.archive.tiers import Tiers
from litejoin.errors import ConfigError, ObjectStoreError, StorageError
from litejoin.store.layout import Layout
from tests.harness.archive import HOUR_MS, NOW_MS, Archive, round_rows
from tests.harness.object_stores import PROVIDERS, Fault, StoreServer
from tests.harness.ports import free_port

DUCK = Duck(64 << 20, Path(tempfile.gettempdir()))


@pytest.fixture(scope="module", params=PROVIDERS)
def any_server(request: pytest.FixtureRequest) -> Iterator[StoreServer]:
    server = StoreServer(request.param)
    yield server
    server.stop()


@pytest.fixture
def server(any_server: StoreServer) -> Iterator[StoreServer]:
    """Of each provider one, in order."""
    yield any_server
    any_server.heal()
    store = ObjectStore(any_server.settings)
    for name in any_server.objects():
        store.delete(name)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Rows of one day in one file; local files are kept for 10 hours."""
    archive = Archive(tmp_path / "data", keeps_copies=True, local_retention_ms=10 * HOUR_MS)
    archive.write(round_rows(0))
    archive.compact()
    yield archive
    archive.close()


def copies_of(archive: Archive, server: StoreServer) -> Copies:
    return Copies(
        archive.paths, Manifest.join(archive.paths.manifest), ObjectStore(server.settings)
    )


def copy_all(archive: Archive, server: StoreServer) -> int:
    copies = copies_of(archive, server)
    waiting = copies.waiting()
    for file in waiting:
        assert copies.copy(file.id).problem == ""
    return len(waiting)


def on_disk(archive: Archive) -> dict[str, bytes]:
    root = archive.paths.root
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("t*/*/*.parquet")}


def keys(archive: Archive, cloud: CloudFiles | None) -> list[str]:
    tiers = Tiers(Layout(archive.paths.root.parent), 2, DUCK, cloud=cloud)
    try:
        return [key for (key,) in tiers.all_rows(archive.topic).execute("SELECT key FROM rows")]
    finally:
        tiers.close()


def cloud_files(archive: Archive, server: StoreServer, limit_bytes: int = 1 << 30) -> CloudFiles:
    return CloudFiles(archive.paths.cache, partial(ObjectStore, server.settings), limit_bytes)


def evict_local(archive: Archive) -> None:
    archive.worker.upkeep(NOW_MS + 11 * HOUR_MS)
    assert on_disk(archive) == {}


def test_an_object_is_what_was_put(server: StoreServer, tmp_path: Path) -> None:
    store, path = ObjectStore(server.settings), tmp_path / "file"
    path.write_bytes(os.urandom(300_000))
    for name in ("t1/2026-11-24/a.parquet", "t1/2026-11-24/b.parquet"):
        store.put(name, path)
    path.write_bytes(b"second")
    store.put("t1/2026-11-24/b.parquet", path)
    assert b"".join(store.pieces("t1/2026-11-24/b.parquet")) == b"second"
    assert store.hash("t1/2026-11-24/a.parquet")[0] == 300_000
    for _ in range(2):
        store.delete("t1/2026-11-24/a.parquet")
    with pytest.raises(ObjectStoreError, match="a.parquet"):
        store.hash("t1/2026-11-24/a.parquet")


# The stand-in of gcs has no uploads in parts.
@pytest.mark.parametrize("any_server", ["s3", "azure"], indirect=True)
def test_a_large_file_goes_in_parts(any_server: StoreServer, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(18_000_000))
    store, before = ObjectStore(any_server.settings), len(any_server.calls)
    store.put("large", path)
    assert sum(method == "PUT" for method, _ in any_server.calls[before:]) >= 3
    assert any_server.objects()["large"] == path.read_bytes()
    store.delete("large")


def test_every_file_is_copied_once(archive: Archive, server: StoreServer) -> None:
    assert copy_all(archive, server) == 1
    assert server.objects() == on_disk(archive)
    assert [file.is_uploaded for file in archive.files()] == [True]
    assert copy_all(archive, server) == 0


def test_local_files_go_only_after_a_copy_was_read_back(
    archive: Archive, server: StoreServer
) -> None:
    wanted = keys(archive, None)
    archive.worker.upkeep(NOW_MS + 11 * HOUR_MS)
    assert len(on_disk(archive)) == 1
    copy_all(archive, server)
    evict_local(archive)
    assert keys(archive, cloud_files(archive, server)) == wanted
    # The second time nothing is fetched.
    before = len(server.calls)
    assert keys(archive, cloud_files(archive, server)) == wanted
    assert len(server.calls) == before


def test_objects_of_merged_files_are_deleted(archive: Archive, server: StoreServer) -> None:
    for number in range(1, 4):
        archive.write(round_rows(number))
        archive.compact()
    copy_all(archive, server)
    wanted = keys(archive, None)
    assert archive.worker.upkeep(NOW_MS + 2 * HOUR_MS)["merged"] == 4
    assert copy_all(archive, server) == 1
    copies = copies_of(archive, server)
    assert copies.delete_dropped(NOW_MS + 2 * HOUR_MS) == 0  # readers that began before
    assert copies.delete_dropped(NOW_MS + 3 * HOUR_MS) == 4
    archive.worker.upkeep(NOW_MS + 3 * HOUR_MS)
    assert server.objects() == on_disk(archive)
    assert len(server.objects()) == 1
    assert keys(archive, None) == wanted
    assert copies.delete_dropped(NOW_MS + 4 * HOUR_MS) == 0


@pytest.mark.parametrize(
    "fault", [Fault.SAY_500, Fault.SAY_403, Fault.CUT_UPLOAD, Fault.CUT_DOWNLOAD, Fault.GARBLE]
)
def test_a_store_that_fails_gets_the_file_again(
    archive: Archive, server: StoreServer, fault: Fault
) -> None:
    server.fail(fault)
    copies = copies_of(archive, server)
    (file,) = copies.waiting()
    with pytest.raises(ObjectStoreError) as raised:
        copies.copy(file.id)
    assert raised.value.retriable
    assert raised.value.hint
    archive.worker.upkeep(NOW_MS + 11 * HOUR_MS)
    assert len(on_disk(archive)) == 1
    server.heal()
    assert copy_all(archive, server) == 1
    assert server.objects() == on_disk(archive)


def test_a_store_that_is_away_gets_the_file_later(archive: Archive, server: StoreServer) -> None:
    away = replace(server.settings, endpoint=f"http://127.0.0.1:{free_port()}/{'x' * 3}")
    copies = Copies(archive.paths, Manifest.join(archive.paths.manifest), ObjectStore(away))
    with pytest.raises(ObjectStoreError, match="127.0.0.1"):
        copies.copy(copies.waiting()[0].id)
    assert copy_all(archive, server) == 1


def test_a_store_that_hangs_is_given_up(
    archive: Archive, server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cloud.TIMEOUTS, "read_timeout", "200ms")
    monkeypatch.setattr(cloud, "MAX_RETRIES", 0)
    answering = threading.Event()
    server.on_request(lambda method: None if answering.wait(60) else None)
    try:
        copies = copies_of(archive, server)
        with pytest.raises(ObjectStoreError):
            copies.copy(copies.waiting()[0].id)
    finally:
        answering.set()
        server.on_request(lambda method: None)
    assert copy_all(archive, server) == 1


def test_a_damaged_local_file_is_not_copied(archive: Archive, server: StoreServer) -> None:
    (file,) = archive.files()
    path = archive.paths.file(file.name)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    copied = copies_of(archive, server).copy(file.id)
    assert "not what was written" in copied.problem
    assert server.objects() == {}
    path.unlink()
    assert "cannot be read" in copies_of(archive, server).copy(file.id).problem


def test_a_file_dropped_meanwhile_is_not_copied(archive: Archive, server: StoreServer) -> None:
    copies, (file,) = copies_of(archive, server), archive.files()
    archive.worker._manifest.drop([file.id], NOW_MS)
    assert copies.copy(file.id).bytes == 0
    archive.worker.upkeep(NOW_MS + HOUR_MS)
    assert copies.copy(file.id).bytes == 0
    assert server.objects() == {}


def test_a_local_file_that_is_lost_is_read_from_its_copy(
    archive: Archive, server: StoreServer
) -> None:
    wanted = keys(archive, None)
    copy_all(archive, server)
    archive.paths.file(archive.files()[0].name).unlink()
    archive.close()
    again = Archive(archive.paths.root.parent, keeps_copies=True)
    assert again.opened["missing"] == []
    assert keys(again, cloud_files(again, server)) == wanted
    again.close()


@pytest.mark.parametrize("fault", [Fault.GARBLE, Fault.CUT_DOWNLOAD, Fault.SAY_500])
def test_a_query_never_shows_other_bytes_than_were_archived(
    archive: Archive, server: StoreServer, fault: Fault
) -> None:
    wanted = keys(archive, None)
    copy_all(archive, server)
    evict_local(archive)
    server.fail(fault)
    with pytest.raises(ObjectStoreError):
        keys(archive, cloud_files(archive, server))
    assert list(archive.paths.cache.iterdir()) == []
    server.heal()
    assert keys(archive, cloud_files(archive, server)) == wanted
    (cached,) = archive.paths.cache.iterdir()
    cached.write_bytes(b"damaged")
    assert keys(archive, cloud_files(archive, server)) == wanted


def test_fetched_files_take_no_more_room_than_allowed(
    archive: Archive, server: StoreServer
) -> None:
    for number in range(1, 4):
        archive.write(round_rows(number))
        archive.compact()
    copy_all(archive, server)
    wanted = keys(archive, None)
    for file in archive.files():
        archive.worker._manifest.set_removed(file.id, local=True)
        archive.paths.file(file.name).unlink()
    largest = max(file.bytes for file in archive.files())
    limit = 2 * largest
    left_over = archive.paths.cache / "0.part"
    archive.paths.cache.mkdir()
    left_over.write_bytes(b"x" * largest)
    assert keys(archive, cloud_files(archive, server, limit)) == wanted
    assert sum(path.stat().st_size for path in archive.paths.cache.iterdir()) <= limit
    assert not left_over.exists()
    # Even a file that is larger than all of it is read.
    assert keys(archive, cloud_files(archive, server, 1)) == wanted
    assert len(list(archive.paths.cache.iterdir())) == 1


def test_a_file_in_a_store_that_is_no_longer_configured_is_named(
    archive: Archive, server: StoreServer
) -> None:
    copy_all(archive, server)
    evict_local(archive)
    with pytest.raises(StorageError, match="only in the object store") as raised:
        keys(archive, None)
    assert "storage.archive.cloud" in raised.value.hint


def test_a_signature_in_a_url_is_not_shown() -> None:
    endpoint = f"http://127.0.0.1:{free_port()}/account"
    settings = CloudSettings(
        "azure", "rows", "", "", endpoint,
        {"account_name": "account", "sas_key": "sv=2024&sig=very-secret-signature"},
    )  # fmt: skip
    with pytest.raises(ObjectStoreError) as raised:
        ObjectStore(settings).hash("t1/a.parquet")
    assert "very-secret" not in str(raised.value)
    assert "127.0.0.1" in str(raised.value)


def test_settings_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ConfigError, match="storage.archive.cloud"):
        ObjectStore(CloudSettings("azure", "rows"))
