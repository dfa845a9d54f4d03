"""`litejoin dlq` on the file of a stopped pipeline: what it lists, sends again and gives up."""

import json
import time
from pathlib import Path

import apsw
import pytest

from litejoin.cli import main as cli
from litejoin.delivery.ledger import Enqueue, Entry, Ledger
from litejoin.records import Result, ResultOp
from litejoin.store.sqlite import open_database

CONFIG = """
storage: {{data_dir: "{data}"}}
delivery: {{guarantee: at_least_once}}
sources:
  - {{type: http, name: in, topics: [orders], config: {{addr: "127.0.0.1:8080"}}}}
joins:
  - {{name: orders, query: "SELECT key AS id FROM orders", sink: crm}}
sinks:
  - {{type: http, name: crm, config: {{url: "http://127.0.0.1:9/x"}}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "shop.yaml"
    path.write_text(CONFIG.format(data=tmp_path / "data"))
    return str(path)


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "dlq.db"
    ledger = Ledger(path, durable=False)
    now_ms = time.time_ns() // 1_000_000
    entries = [entry("a", 1, now_ms), entry("b", 2, now_ms - 7_200_000), entry("5", 3, now_ms)]
    ledger.commit({}, [Enqueue(e) for e in entries])
    ledger.close()
    return path


def entry(key: str, pos: int, created_ms: int) -> Entry:
    result = Result(pos, "orders", json.dumps(key), '[{"id":1}]', ResultOp.UPSERT, 0, "shop/e")
    due = None if pos == 1 else created_ms + 1_000
    return Entry("crm" if pos < 3 else "other", result, pos, created_ms, due, "HTTP 500\x1b[31m")


def listed(config: str, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    capsys.readouterr()
    assert cli.main(["dlq", "list", "-c", config, "--format", "json", *options]) == 0
    return [row["key"] for row in json.loads(capsys.readouterr().out)]


def test_the_list_is_json_with_stable_names(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["dlq", "list", "-c", config, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert list(rows[0]) == [
        "id", "sink", "join", "key", "attempts", "next_retry_at", "created_at", "error"
    ]  # fmt: skip
    assert rows[0]["next_retry_at"] is None
    assert rows[1]["next_retry_at"].endswith("Z")


@pytest.mark.parametrize(
    ("options", "keys"),
    [((), ["a", "b", "5"]), (("--sink", "crm"), ["a", "b"]), (("--sink", "other"), ["5"]),
     (("--join", "orders", "--key", "c"), []),
     (("--key", "5"), ["5"]), (("--older-than", "1h"), ["b"])],
)  # fmt: skip
def test_filters_narrow_the_list(
    config: str,
    queue: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    keys: list[str],
) -> None:
    assert listed(config, capsys, *options) == keys


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ("--sink", "cmr"),
            """no sink 'cmr' in the config or in the queue (did you mean "crm"?)""",
        ),
        (("--join", "x"), "no join 'x' in the config or in the queue (there are: orders)"),
    ],
)
@pytest.mark.parametrize("action", ["list", "show", "retry", "purge"])
def test_a_name_that_nothing_has_is_refused(
    config: str,
    queue: Path,
    capsys: pytest.CaptureFixture[str],
    action: str,
    options: tuple[str, ...],
    told: str,
) -> None:
    assert cli.main(["dlq", action, "-c", config, *options]) == 2
    assert capsys.readouterr().err == f"litejoin: LJ-CFG: {told}\n"
    assert listed(config, capsys) == ["a", "b", "5"]


def test_the_text_list_has_a_line_each_without_control_characters(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["dlq", "list", "-c", config]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 5
    assert "parked" in out
    assert "\x1b" not in out
    assert out.endswith("3 entries\n")


def test_show_prints_the_body_as_it_is_sent(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["dlq", "show", "-c", config, "--key", "b"]) == 0
    body = capsys.readouterr().out.splitlines()[-1]
    assert body == entry("b", 2, 0).result.body().decode()
    assert cli.main(["dlq", "show", "-c", config, "--key", "none"]) == 1


def test_entries_can_be_named_by_their_ids(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = entry("a", 1, 0).result.id, entry("b", 2, 0).result.id
    assert cli.main(["dlq", "show", second, "-c", config]) == 0
    assert json.loads(capsys.readouterr().out.split("\n}\n")[0] + "}")["id"] == second
    assert cli.main(["dlq", "purge", first, second, "-c", config]) == 0
    assert listed(config, capsys) == ["5"]
    assert listed(config, capsys, "--id", first) == []


def test_a_null_key_and_a_window_are_shown_as_such(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = Result(9, "hourly", "null", "[]", ResultOp.UPSERT, 0, "shop/e", 0, 3_600_000)
    ledger = Ledger(queue, durable=False, create=False)
    ledger.commit({}, [Enqueue(Entry("crm", window, 1, 0, None, "HTTP 500"))])
    ledger.close()
    assert cli.main(["dlq", "list", window.id, "-c", config]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[2:6] == ["hourly", "null", "1", "parked"]
    assert cli.main(["dlq", "list", window.id, "-c", config, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["key"] is None
    assert row["window"] == {"start": "1970-01-01T00:00:00.000Z", "end": "1970-01-01T01:00:00.000Z"}


def test_who_only_looks_needs_nothing_that_a_reader_has_not(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = open_database(queue)
    writer.execute("BEGIN IMMEDIATE")
    assert len(listed(config, capsys)) == 3
    assert cli.main(["dlq", "show", entry("a", 1, 0).result.id, "-c", config]) == 0
    with pytest.raises(apsw.ReadOnlyError):
        Ledger.read(queue).commit({"crm": 1}, ())
    writer.close()


def test_a_file_without_what_is_looked_for_is_refused(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = open_database(queue)
    db.execute("DROP TABLE dlq")
    db.close()
    assert cli.main(["dlq", "list", "-c", config]) == 4
    assert "start the pipeline once" in capsys.readouterr().err
    queue.write_bytes(b"no database " * 100)
    assert cli.main(["dlq", "list", "-c", config]) == 4
    assert "cannot be used as dead-letter queue" in capsys.readouterr().err


def test_retry_makes_entries_due_and_purge_takes_them_out(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["dlq", "retry", "-c", config, "--key", "a"]) == 0
    ledger = Ledger(queue, durable=False, create=False)
    assert [e.result.key for e in ledger.due("crm", 0, 9)[0]] == ['"a"']
    ledger.close()
    assert cli.main(["dlq", "purge", "-c", config]) == 2
    assert len(listed(config, capsys)) == 3, "a purge without a filter does nothing"
    assert cli.main(["dlq", "purge", "-c", config, "--sink", "crm"]) == 0
    assert entry("a", 1, 0).result.id in capsys.readouterr().out
    assert listed(config, capsys) == ["5"]
    assert cli.main(["dlq", "purge", "-c", config, "--all"]) == 0
    assert listed(config, capsys) == []


def test_no_queue_yet_is_no_error_and_makes_no_file(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(config, capsys) == []
    assert cli.main(["dlq", "retry", "-c", config]) == 0
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_no_queue_is_refused(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.write_bytes(b"no database at all, only some bytes that fill a page " * 100)
    assert cli.main(["dlq", "list", "-c", config]) == 4
    assert "dead-letter queue" in capsys.readouterr().err


def test_a_queue_that_was_cut_is_refused(
    config: str, queue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.write_bytes(queue.read_bytes()[: queue.stat().st_size // 2])
    assert cli.main(["dlq", "list", "-c", config]) == 4
    assert "dead-letter queue: database disk image is malformed" in capsys.readouterr().err
