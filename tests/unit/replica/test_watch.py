"""Whether files are known to be at the replica, and since when they are not."""

import os
from pathlib import Path

from litejoin.clock import ManualClock
from litejoin.replica.watch import Watch
from litejoin.store.trimming import HOLD_MS, TrimDelay


def written(path: Path, at: float) -> None:
    wal = path.with_name(path.name + "-wal")
    wal.write_bytes(b"x")
    os.utime(wal, (at, at))


def test_a_file_is_behind_from_when_that_was_seen_until_it_is_copied(tmp_path: Path) -> None:
    a, b = tmp_path / "a.db", tmp_path / "b.db"
    watch = Watch({"a": a, "b": b})
    assert watch.uncopied(0) == []
    written(a, 1000.0)
    assert watch.uncopied(1) == ["a"]
    assert watch.uncopied(5) == ["a"]
    assert watch.behind(7) == {"a": 6}
    watch.copied("a", 1001.0)
    assert (watch.uncopied(8), watch.behind(8)) == ([], {})
    written(a, 1000.95)  # within what a file's time may be too old
    assert watch.uncopied(9) == ["a"]


def test_without_a_socket_local_copies_count(tmp_path: Path) -> None:
    a = tmp_path / "a.db"
    watch = Watch({"a": a})
    written(a, 1000.0)
    watch.look_at_copies(watch.uncopied(0))
    assert watch.behind(3) == {"a": 3}
    copies = tmp_path / ".a.db-litestream/ltx/0"
    copies.mkdir(parents=True)
    (copies / "1.ltx").write_bytes(b"x")
    os.utime(copies / "1.ltx", (1001.0, 1001.0))
    watch.look_at_copies(watch.uncopied(4))
    assert watch.behind(5) == {}


def test_batch_records_stay_for_a_while_after_they_were_applied() -> None:
    clock = ManualClock()
    delay = TrimDelay(clock)
    assert delay.due({0: 1}) == {}
    clock.advance(HOLD_MS // 2)
    assert delay.due({0: 2}) == {}
    clock.advance(HOLD_MS // 2)
    assert delay.due({0: 3}) == {0: 1}
    clock.advance(HOLD_MS)
    assert delay.due({0: 4}) == {0: 3}
