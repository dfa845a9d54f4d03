"""The examples of Apache Flink's page on windowing table-valued functions, with the same results.

https://nightlies.apache.org/flink/flink-docs-stable/docs/dev/table/sql/queries/window-tvf/
"""

from pathlib import Path
from typing import Any

from tests.differential.window_pipeline import WindowPipeline, message
from tests.unit.engine.windows.test_firing import pipeline

BIDS = [
    ("08:05", 4.0, "C"), ("08:07", 2.0, "A"), ("08:09", 5.0, "D"), ("08:11", 3.0, "B"),
    ("08:13", 1.0, "E"), ("08:17", 6.0, "F"),
]  # fmt: skip
SESSION_BIDS = [
    ("08:07", 4.0, "A"), ("08:06", 2.0, "A"), ("08:09", 5.0, "B"), ("08:08", 3.0, "A"),
    ("08:17", 1.0, "B"),
]  # fmt: skip
TOTAL = "SELECT sum(payload ->> '$.price') AS total FROM orders"


def fired(tmp_path: Path, bids: list[tuple[str, float, str]], **keys: Any) -> list[Any]:
    pipe: WindowPipeline = pipeline(
        tmp_path,
        start_ms=1_700_000_000_000,
        query=TOTAL,
        time_path="bidtime",
        allowed_lateness="4m",
        **keys,
    )
    for number, (time, price, item) in enumerate(bids):
        text = f"2020-04-15T{time}:00Z"
        pipe.send(message(f"bid{number}", 0, bidtime=text, price=price, item=item))
    pipe.send(message("end", 0, bidtime="2020-04-15T12:00:00Z", price=0, item="end"))
    found = [
        (b["window"]["start"][11:16], b["window"]["end"][11:16], b["key"], b["rows"][0]["total"])
        for b in pipe.bodies()
    ]
    pipe.close()
    return found


def test_tumble_10_minutes(tmp_path: Path) -> None:
    assert fired(tmp_path, BIDS, type="tumbling", size="10m") == [
        ("08:00", "08:10", None, 11.0),
        ("08:10", "08:20", None, 10.0),
    ]


def test_hop_5_minutes_of_10(tmp_path: Path) -> None:
    assert fired(tmp_path, BIDS, type="sliding", size="10m", slide="5m") == [
        ("08:00", "08:10", None, 11.0),
        ("08:05", "08:15", None, 15.0),
        ("08:10", "08:20", None, 10.0),
        ("08:15", "08:25", None, 6.0),
    ]


def test_session_of_5_minutes_by_item(tmp_path: Path) -> None:
    assert sorted(fired(tmp_path, SESSION_BIDS, type="session", gap="5m", partition_by="item")) == [
        ("08:06", "08:13", "A", 9.0),
        ("08:09", "08:14", "B", 5.0),
        ("08:17", "08:22", "B", 1.0),
    ]


def test_session_of_5_minutes_over_all(tmp_path: Path) -> None:
    assert fired(tmp_path, SESSION_BIDS, type="session", gap="5m") == [
        ("08:06", "08:14", None, 14.0),
        ("08:17", "08:22", None, 1.0),
    ]
