"""One process holds a data directory; others are told who, and leave no trace."""

import os
from pathlib import Path

import pytest

from litejoin.errors import DataDirInUseError, StartRefusedError
from litejoin.store.lock import DirectoryLock, refuse_if_held


def test_a_held_lock_is_told_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = DirectoryLock.acquire(path, "shop")
    for ask in (lambda: refuse_if_held(path), lambda: DirectoryLock.acquire(path, "other")):
        with pytest.raises(DataDirInUseError, match=r"in use by process \d+ \(pipeline shop\)"):
            ask()
    lock.release()
    refuse_if_held(path)
    DirectoryLock.acquire(path, "other").release()


def test_asking_creates_nothing(tmp_path: Path) -> None:
    refuse_if_held(tmp_path / "lock")
    refuse_if_held(tmp_path / "none" / "lock")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_leads_elsewhere_is_refused_and_empties_nothing(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "lock"
    other.write_text("precious")
    path.symlink_to(other)
    refuse_if_held(path)
    with pytest.raises(StartRefusedError, match="cannot open its lock"):
        DirectoryLock.acquire(path, "shop")
    assert other.read_text() == "precious"


@pytest.mark.timeout(20)
def test_asking_waits_for_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    refuse_if_held(tmp_path / "lock")


def test_asking_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    DirectoryLock.acquire(path, "shop").release()
    text = path.read_text()
    refuse_if_held(path)
    assert path.read_text() == text
    DirectoryLock.acquire(path, "shop").release()
