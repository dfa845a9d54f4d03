"""A running pipeline and a damaged shard, as a user sees it: 503 for its keys, the rest goes on
(semantics 12, 13).
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3

from litejoin._ext.route import shard_of
from litejoin.store.sqlite import open_database
from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline, run_command
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually

SHARDS = 4
JOINS = {"all": "SELECT key, json_extract(payload, '$.v') AS v FROM orders"}
KEYS = {shard: [f"k{n}" for n in range(200) if shard_of(b"k%d" % n, SHARDS) == shard][:9]
        for shard in range(SHARDS)}  # fmt: skip
SICK, SOUND = 2, 1


def config(at: Listener, **storage: Any) -> dict[str, Any]:
    return push_config(at, JOINS, storage={"shard_count": SHARDS, **storage})


def health(at: Listener) -> dict[str, Any]:
    body: dict[str, Any] = urllib3.request("GET", at.health).json()
    return body


def shown(at: Listener) -> dict[str, Any]:
    return {r["key"]: r["rows"][0]["v"] for r in snapshot(at.url, "all").results}


def is_shown(at: Listener, key: str, value: int) -> bool:
    return bool(shown(at).get(key) == value)


def put(client: IngestClient, shard: int, value: int) -> Any:
    return client.offer([message("orders", key, {"v": value}) for key in KEYS[shard]])


def shard_file(pipeline: Pipeline, shard: int) -> Path:
    return pipeline.work_dir / "data" / f"shard-{shard:04d}.db"


def damage(pipeline: Pipeline, shard: int) -> None:
    """Change a row behind the daemon's back, without its checksum."""
    with open_database(shard_file(pipeline, shard)) as connection:
        connection.execute("UPDATE t1 SET payload = replace(payload, '7', '8')")


@pytest.fixture
def fed(launch: Launcher) -> tuple[Pipeline, Listener, IngestClient]:
    at = Listener()
    pipeline = launch(config(at), at.health)
    client = IngestClient(at.url)
    for shard in range(SHARDS):
        assert put(client, shard, 7).status == 200
    eventually(lambda: len(shown(at)) == SHARDS * 9, 30)
    return pipeline, at, client


def check(pipeline: Pipeline, *options: str) -> tuple[int, dict[str, Any]]:
    """`litejoin check` in the pipeline's directory: exit code and what it found by file."""
    done = run_command(
        "check", "-c", "pipeline.yaml", "--format", "json", *options, work_dir=pipeline.work_dir
    )
    answer = json.loads(done.stdout) if done.stdout else {"files": []}
    found = answer.get("files", [answer])
    return done.returncode, {entry["file"]: entry for entry in found}


def assert_refused(answer: Any) -> None:
    assert answer.status == 503
    assert answer.headers["retry-after"]
    assert answer.body["code"] == "LJ-SHARD"
    assert f"shard {SICK} is quarantined" in answer.body["error"]


def test_damage_met_while_running(fed: tuple[Pipeline, Listener, IngestClient]) -> None:
    pipeline, at, client = fed
    damage(pipeline, SICK)
    assert_refused(put(client, SICK, 1))  # the row that would be replaced is not what was written
    assert put(client, SOUND, 1).status == 200
    both = [message("orders", KEYS[shard][0], {"v": 5}) for shard in (SICK, SOUND)]
    assert_refused(client.offer(both))
    eventually(partial(is_shown, at, KEYS[SOUND][0], 1), 30)
    body = health(at)
    assert body["status"] == "degraded"
    assert body["reasons"][0].startswith(f"shard {SICK}: table t1: a row fails its checksum")
    assert f"store: shard {SICK} is quarantined" in pipeline.log()
    assert is_shown(at, KEYS[SICK][0], 7), "the last good result stays"

    content = shard_file(pipeline, SICK).read_bytes()
    assert pipeline.stop() == 0
    assert shard_file(pipeline, SICK).read_bytes() == content, "it is left as it was found"
    pipeline.start()
    assert health(at)["status"] == "degraded"
    assert_refused(put(client, SICK, 2))
    assert put(client, SOUND, 2).status == 200


def test_a_shard_that_lost_its_content_is_found_at_the_start(
    fed: tuple[Pipeline, Listener, IngestClient],
) -> None:
    pipeline, at, client = fed
    assert pipeline.stop() == 0
    shard_file(pipeline, SICK).write_bytes(b"")
    pipeline.start()
    assert "shard-0002.db is empty" in health(at)["reasons"][0]
    assert_refused(put(client, SICK, 1))
    assert put(client, SOUND, 1).status == 200
    eventually(partial(is_shown, at, KEYS[SOUND][0], 1), 30)
    assert is_shown(at, KEYS[SICK][0], 7)
    assert shard_file(pipeline, SICK).read_bytes() == b""


def test_missing_and_swapped_files_refuse_the_start(
    fed: tuple[Pipeline, Listener, IngestClient],
) -> None:
    pipeline, _, _ = fed
    assert pipeline.stop() == 0
    sick, sound = shard_file(pipeline, SICK), shard_file(pipeline, SOUND)
    sick.rename(sick.with_suffix(".away"))
    assert pipeline.run_to_exit() == 4
    assert "lacks shard-0002.db" in pipeline.errors()
    assert not sick.exists(), "nothing is made anew"
    sound.rename(sick)
    sick.with_suffix(".away").rename(sound)
    assert pipeline.run_to_exit() == 4
    assert "is another shard's file" in pipeline.errors()


@pytest.mark.parametrize("is_gone", [False, True])
def test_results_of_another_moment_are_computed_anew(
    fed: tuple[Pipeline, Listener, IngestClient], is_gone: bool
) -> None:
    pipeline, at, client = fed
    with Subscriber(at.url, "all") as stream:
        put(client, SOUND, 8)
        before = stream.wait_results(1)[0]
    assert pipeline.stop() == 0
    state = pipeline.work_dir / "data" / "state.db"
    older = state.read_bytes()
    pipeline.start()
    with Subscriber(at.url, "all") as stream:
        for value in range(20, 26):
            assert put(client, SOUND, value).status == 200
            eventually(partial(is_shown, at, KEYS[SOUND][0], value), 30)
        told = stream.wait_results(6)
    assert pipeline.stop() == 0
    state.unlink()
    if not is_gone:
        state.write_bytes(older)
    pipeline.start()
    eventually(partial(is_shown, at, KEYS[SOUND][0], 25), 30)
    assert "every join is computed anew" in pipeline.output()
    with Subscriber(at.url, "all") as stream:
        put(client, SOUND, 30)
        ids = {stream.wait_results(1)[0]["id"]}
    assert not ids & {result["id"] for result in [before, *told]}
    assert pipeline.stop() == 0
    pipeline.start()
    assert pipeline.output().count("every join is computed anew") == 1


def test_results_newer_than_the_rows_are_taken_back(
    fed: tuple[Pipeline, Listener, IngestClient],
) -> None:
    pipeline, at, client = fed
    assert pipeline.stop() == 0
    data = pipeline.work_dir / "data"
    older = {path: path.read_bytes() for path in [*data.glob("shard-*.db"), data / "marks"]}
    before = KEYS[SOUND][0]
    pipeline.start()
    value = shown(at)[before]
    put(client, SOUND, value + 1)
    eventually(partial(is_shown, at, before, value + 1), 30)
    assert pipeline.stop() == 0
    for path, content in older.items():
        path.write_bytes(content)
    pipeline.start()
    eventually(partial(is_shown, at, before, value), 30)
    assert "state.db is newer than the shards: every join is computed anew" in pipeline.output()


@pytest.mark.parametrize("marks", ["older", "gone"])
def test_a_shard_of_an_earlier_moment_is_named_where_no_mark_tells(
    fed: tuple[Pipeline, Listener, IngestClient], marks: str
) -> None:
    """As in a copy that was made while the pipeline ran, whose files are of different moments."""
    pipeline, at, client = fed
    assert pipeline.stop() == 0
    older = {path: path.read_bytes() for path in (shard_file(pipeline, SICK), marks_of(pipeline))}
    before = shown_after_start(pipeline, at)
    for shard in (SICK, SOUND):
        put(client, shard, 8)
        eventually(partial(is_shown, at, KEYS[shard][0], 8), 30)
    assert pipeline.stop() == 0
    for path, content in older.items():
        path.write_bytes(content)
    if marks == "gone":
        marks_of(pipeline).unlink()
    told = f"state.db is newer than shard {SICK}: every join is computed anew"
    after = shown_after_start(pipeline, at)
    assert told in pipeline.output()
    assert after == before | dict.fromkeys(KEYS[SOUND], 8)
    assert pipeline.stop() == 0
    pipeline.start()
    assert pipeline.output().count(told) == 1


def marks_of(pipeline: Pipeline) -> Path:
    return pipeline.work_dir / "data" / "marks"


def shown_after_start(pipeline: Pipeline, at: Listener) -> dict[str, Any]:
    pipeline.start()
    eventually(lambda: len(shown(at)) == SHARDS * 9, 30)
    return shown(at)


def test_results_of_another_directory_refuse_the_start(launch: Launcher) -> None:
    pipelines = []
    for _ in range(2):
        at = Listener()
        pipelines.append(launch(config(at), at.health))
        assert pipelines[-1].stop() == 0
    mine, other = ((each.work_dir / "data" / "state.db") for each in pipelines)
    mine.write_bytes(other.read_bytes())
    assert pipelines[0].run_to_exit() == 4
    assert "state.db holds the results of another data_dir" in pipelines[0].errors()


def test_the_scrub_finds_what_nobody_reads(launch: Launcher) -> None:
    at = Listener()
    pipeline = launch(config(at, scrub_interval="200ms"), at.health)
    with IngestClient(at.url) as client:
        for shard in range(SHARDS):
            assert put(client, shard, 7).status == 200
        eventually(lambda: health(at)["shards"]["scrub"]["rounds"] > 0, 30)
        assert health(at)["status"] == "ok"
        damage(pipeline, SICK)
        eventually(lambda: health(at)["status"] == "degraded", 30)
        assert_refused(put(client, SICK, 1))
        assert put(client, SOUND, 1).status == 200
    reason = health(at)["shards"]["quarantined"][str(SICK)]
    assert reason.endswith("fails its checksum")
    metrics = urllib3.request("GET", f"{at.url}/metrics").data.decode()
    assert "litejoin_storage_quarantined_shards 1.0" in metrics
    assert pipeline.stop() == 0


def test_check_beside_a_running_pipeline_and_release_after_the_repair(
    fed: tuple[Pipeline, Listener, IngestClient],
) -> None:
    pipeline, at, client = fed
    before = pipeline.files("data")
    code, found = check(pipeline, "--deep")
    assert code == 0
    assert {entry["status"] for entry in found.values()} == {"ok"}
    assert sum(entry["rows"] or 0 for entry in found.values()) >= SHARDS * 9
    assert pipeline.files("data") == before, "it makes nothing"
    damage(pipeline, SICK)
    code, found = check(pipeline)
    assert (code, found["shard-0002.db"]["status"]) == (1, "damaged")
    assert "fails its checksum" in found["shard-0002.db"]["reason"]
    assert_refused(put(client, SICK, 1))
    assert check(pipeline)[1]["shard-0002.db"]["status"] == "quarantined"
    assert check(pipeline, "--release", str(SICK))[0] == 3, "in use"

    assert pipeline.stop() == 0
    assert check(pipeline, "--release", str(SICK))[0] == 1, "still damaged"
    assert check(pipeline, "--release", str(SOUND))[0] == 4, "not quarantined"
    with open_database(shard_file(pipeline, SICK)) as connection:
        connection.execute("UPDATE t1 SET payload = replace(payload, '8', '7')")
    code, found = check(pipeline, "--release", str(SICK))
    assert (code, found["shard-0002.db"]["status"]) == (0, "ok")
    assert check(pipeline, "--deep")[0] == 0
    pipeline.start()
    assert put(client, SICK, 3).status == 200
    eventually(partial(is_shown, at, KEYS[SICK][0], 3), 30)
    assert health(at)["reasons"] == []


def test_check_of_a_directory_that_is_not_there(launch: Launcher) -> None:
    pipeline = launch.prepare(config(Listener()))
    assert check(pipeline)[0] == 4
    assert pipeline.files() == []


def test_pushes_wait_for_free_space(launch: Launcher) -> None:
    at = Listener()
    pipeline = launch(config(at, min_free_space="1000000GB"), at.health)
    eventually(lambda: "min_free_space" in str(health(at)["reasons"]), 30)
    with IngestClient(at.url) as client:
        answer = put(client, SOUND, 1)
    assert (answer.status, "short of disk space" in answer.body["error"]) == (503, True)
    assert pipeline.stop() == 0
