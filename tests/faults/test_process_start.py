"""Starts that must be refused: exit codes, reasons, nothing touched (product 1, semantics 12)."""

import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness.configs import CONFORMANCE, Listener, push_config, substitute
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline, run_command
from tests.harness.sse import snapshot
from tests.harness.waiting import SLOW, eventually

JOIN = {"rows": "SELECT key, payload FROM t"}


def refused(pipeline: Pipeline, code: int) -> str:
    """The output of a start that ends with this exit code, without a stack trace."""
    assert pipeline.run_to_exit() == code, pipeline.output()
    assert "Traceback" not in pipeline.output(), pipeline.output()
    return pipeline.log() + pipeline.errors()


JOIN_TEXT = (
    'joins:\n  - name: j\n    query: "{}"\n    sink: out\nsinks: [{{name: out, type: stdout}}]\n'
)
ALIAS_BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)

BROKEN = {
    "bad YAML": ('sources: [\njoins: "', r"\d+:\d+"),
    "unknown key": ("sources:\n  - name: in\n    type: http\n    adress: x\n", r"4:5: .*adress"),
    "duplicate key": ("name: a\nsources: []\nname: b\n", r"3:1: .*name"),
    "wrong type": ("storage:\n  shard_count: many\n", r"2:16: "),
    "bad duration": ("storage:\n  flush_interval: 10 parsecs\n", r"2:19: "),
    "unset variable": ("name: ${NO_SUCH_VARIABLE}\n", r"1:7: .*NO_SUCH_VARIABLE"),
    "unknown sink": (
        JOIN_TEXT.format("SELECT key FROM t").replace("out", "nowhere", 1), r"4:11: .*nowhere"),
    "two statements": (JOIN_TEXT.format("SELECT key FROM t; DROP TABLE t"), r"3:\d+: "),
    "not a SELECT": (JOIN_TEXT.format("DELETE FROM t"), r"3:\d+: "),
    "ATTACH": (JOIN_TEXT.format("ATTACH '/etc/passwd' AS x"), r"3:\d+: "),
    "PRAGMA": (JOIN_TEXT.format("PRAGMA journal_mode = DELETE"), r"3:\d+: "),
    "table of SQLite": (JOIN_TEXT.format("SELECT name FROM sqlite_master"), r"3:\d+: "),
    "load_extension": (JOIN_TEXT.format("SELECT load_extension('x') FROM t"), r"3:\d+: "),
    "no such function": (
        JOIN_TEXT.format("SELECT jsn_extract(payload, '$.x') FROM t"), r"3:\d+: .*jsn_extract"),
    "no such column": (JOIN_TEXT.format("SELECT t.kye FROM t"), r"3:\d+: .*kye"),
    "syntax error": (JOIN_TEXT.format("SELECT key FORM t"), r"3:\d+: "),
    "an empty file": ("", r"\d+:\d+"),
    "a list": ("- a\n- b\n", r"1:1"),
    "alias bomb": (ALIAS_BOMB, r"\d+:\d+"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "position"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_config_is_refused_with_its_position(
    launch: Launcher, text: str, position: str
) -> None:
    output = refused(launch.prepare(text), 2)
    assert re.search(rf"pipeline\.yaml:{position}", output), output
    assert launch.pipelines[0].files() == [], "a refused start wrote something"


def test_all_findings_are_told_not_only_the_first(launch: Launcher) -> None:
    text = "storage:\n  shard_cuont: 4\n  flush_interval: soon\nretention: {durration: 1h}\n"
    output = refused(launch.prepare(text), 2)
    for line, word in ((2, "shard_cuont"), (3, ""), (4, "durration")):
        assert re.search(rf"pipeline\.yaml:{line}:\d+: .*{word}", output), output


def test_a_misspelt_key_gets_a_suggestion(launch: Launcher) -> None:
    output = refused(launch.prepare("storage:\n  shard_cuont: 4\n"), 2)
    assert 'did you mean "shard_count"' in output


@pytest.mark.parametrize("args", [[], ["-c"], ["-c", "missing.yaml"], ["-c", "."], ["--nonsense"]])
def test_bad_usage_is_told_in_one_line_with_exit_2(tmp_path: Path, args: list[str]) -> None:
    done = run_command("run", *args, work_dir=tmp_path)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.strip()
    assert list(tmp_path.iterdir()) == []


def test_a_second_instance_is_refused_within_a_second_and_names_the_holder(
    launch: Launcher,
) -> None:
    at, other = Listener(), Listener()
    storage = {"data_dir": "../shared-data"}
    first = launch(push_config(at, JOIN, storage=storage), at.health)
    second = launch.prepare(push_config(other, JOIN, storage=storage))
    began = time.monotonic()
    output = refused(second, 3)
    took = time.monotonic() - began
    print(f"second instance refused after {took:.2f} s (promised: 1 s)")
    assert took < 2 * SLOW
    assert str(first.pid) in output
    assert "shared-data" in output
    first.assert_running()
    with IngestClient(at.url) as client:
        client.send(message("t", "unharmed", 1))


def test_kill_9_releases_the_lock(launch: Launcher) -> None:
    at = Listener()
    pipeline = launch(push_config(at, JOIN), at.health)
    pipeline.restart()
    pipeline.assert_running()


def changed_storage(launch: Launcher, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Run once with `before`, then start with `after` on the same data: refused, data untouched."""
    at = Listener()
    first = launch(push_config(at, JOIN, storage={"data_dir": "../data", **before}), at.health)
    with IngestClient(at.url) as client:
        client.send([message("t", f"k{i}", i) for i in range(50)])
    assert first.stop() == 0
    data = launch.base_dir / "data"
    listing = {path.name: path.stat().st_size for path in data.iterdir()}
    output = refused(
        launch.prepare(push_config(at, JOIN, storage={"data_dir": "../data", **after})), 4
    )
    assert {path.name: path.stat().st_size for path in data.iterdir()} == listing
    first.start()
    eventually(lambda: len(snapshot(at.url, "rows").results) == 50)
    return output


@pytest.mark.parametrize("count", [2, 8])
def test_a_changed_shard_count_is_refused_and_the_old_one_still_starts(
    launch: Launcher, count: int
) -> None:
    output = changed_storage(launch, {"shard_count": 4}, {"shard_count": count})
    assert "4" in output and str(count) in output and "shard" in output


def stopped_with_data(launch: Launcher) -> tuple[Pipeline, Path]:
    at = Listener()
    pipeline = launch(push_config(at, JOIN, storage={"shard_count": 4}), at.health)
    with IngestClient(at.url) as client:
        client.send([message("t", f"k{i}", i) for i in range(50)])
    assert pipeline.stop() == 0
    return pipeline, pipeline.work_dir / "data"


def test_a_missing_shard_is_refused_and_not_created_empty(launch: Launcher) -> None:
    pipeline, data = stopped_with_data(launch)
    lost = sorted(data.glob("shard-*"))[1]
    kept = lost.rename(launch.base_dir / lost.name)
    output = refused(pipeline, 4)
    assert lost.name in output
    assert not lost.exists()
    kept.rename(lost)
    pipeline.start()


def test_a_data_dir_of_a_newer_format_is_refused(launch: Launcher) -> None:
    pipeline, data = stopped_with_data(launch)
    manifest = data / "manifest.json"
    text = manifest.read_text()
    newer = re.sub(r'("format[^"]*"\s*:\s*)\d+', r"\g<1>99999", text, count=1)
    assert newer != text, text
    manifest.write_text(newer)
    assert "99999" in refused(pipeline, 4)
    manifest.write_text(text)
    pipeline.start()


def test_a_damaged_manifest_is_refused_and_kept(launch: Launcher) -> None:
    pipeline, data = stopped_with_data(launch)
    (data / "manifest.json").write_text('{"half": ')
    assert "manifest" in refused(pipeline, 4)
    assert (data / "manifest.json").read_text() == '{"half": '


def test_a_taken_address_from_the_config_refuses_the_start(launch: Launcher) -> None:
    at = Listener()
    with socket.create_server(("127.0.0.1", at.port)):
        pipeline = launch.prepare(push_config(at, JOIN))
        assert pipeline.run_to_exit() != 0
    assert at.addr in pipeline.output()
    assert "Traceback" not in pipeline.output()


def test_a_second_pipeline_gets_a_free_port_when_the_default_is_taken(launch: Launcher) -> None:
    text = (CONFORMANCE / "02-orders-users.yaml").read_text(encoding="utf-8")
    pipelines = []
    for _ in range(2):
        push = Listener()
        pipelines.append(launch(substitute(text, {'":8080"': f'":{push.port}"'}), push.health))
    warned = [line for line in pipelines[1].log().splitlines() if "WARN" in line and "9100" in line]
    assert warned, pipelines[1].log()
    ports = [int(p) for p in re.findall(r"127\.0\.0\.1:(\d+)", pipelines[1].log()) if p != "9100"]
    assert any(
        IngestClient(f"http://127.0.0.1:{port}").get("/health").status == 200 for port in set(ports)
    )


def test_the_data_dir_is_private_to_its_user(launch: Launcher) -> None:
    pipeline, data = stopped_with_data(launch)
    assert data.stat().st_mode & 0o777 == 0o700
    for path in data.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    pipeline.start()
    for path in data.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
