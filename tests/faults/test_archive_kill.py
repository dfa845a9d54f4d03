"""A process that dies at any step of a compaction, merge or deletion loses no row."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.archive import HOUR_MS, KILLED, NOW_MS, Archive, ArchivedRow, round_rows


@pytest.fixture
def killed_before(tmp_path: Path) -> Iterator[Callable[[int], bool]]:
    """Plays a round in a process; True when it got as far as the step, and died there."""
    player = subprocess.Popen(
        [sys.executable, "-m", "tests.harness.archive", str(tmp_path / "data")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip

    def play_until(step: int) -> bool:
        assert player.stdin and player.stdout
        player.stdin.write(f"{step}\n")
        code = int(player.stdout.readline())
        assert code in (0, KILLED)
        return code == KILLED

    with player:
        yield play_until
        assert player.stdin
        player.stdin.close()


def test_a_kill_at_any_step_loses_no_row(
    tmp_path: Path, killed_before: Callable[[int], bool]
) -> None:
    data_dir = tmp_path / "data"
    archive, wanted = Archive(data_dir), set[ArchivedRow]()
    step, is_killed = 0, True
    while is_killed:
        step += 1
        archive.write(round_rows(step))
        wanted = set(archive.archived()) | set(archive.hot())
        archive.close()
        is_killed = killed_before(step)
        archive = Archive(data_dir)
        assert archive.opened["missing"] == [], f"step {step}"
        assert set(archive.archived()) | set(archive.hot()) == wanted, f"step {step}"
    assert step > 25
    # What was left half done has been finished by the rounds that followed.
    assert archive.hot() == []
    assert set(archive.archived().values()) == {1}
    archive.worker.upkeep(NOW_MS + 9 * HOUR_MS)
    root = archive.paths.root
    on_disk = {str(path.relative_to(root)) for path in root.glob("t*/*/*.parquet")}
    assert on_disk == {file.name for file in archive.files()}
    archive.close()
