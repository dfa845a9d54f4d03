"""`litejoin poll` and `record`, run as an operator runs them, against the fake services."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.process import run_command
from tests.harness.scripted import Reply
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually
from tests.services.rig import Rig, source_of
from tests.services.service import Service
from tests.services.shapes import ALL, GitHub, HubSpot, Salesforce, Slack

FILE = "pipeline.yaml"


def write(folder: Path, service: Service, **api: object) -> Path:
    """A config with the service's source alone."""
    config = push_config(Listener(), {})
    config["sources"] = [source_of(service, **api)]
    (folder / FILE).write_text(json.dumps(config))
    return folder


def litejoin(folder: Path, service: Service, *args: str) -> tuple[int, str, str]:
    done = run_command(*args, work_dir=folder, env=service.secrets)
    return done.returncode, done.stdout, done.stderr


def poll(folder: Path, service: Service, *more: str) -> tuple[int, str, str]:
    return litejoin(folder, service, "poll", "-c", FILE, service.name, *more)


@pytest.mark.parametrize("shape", ALL, ids=[shape.name for shape in ALL])
def test_a_recording_polls_offline_as_the_api_did(tmp_path: Path, shape: type[Service]) -> None:
    """Recorded, the service gone, replayed: the same report, and no secret in the files."""
    with shape() as service:
        write(tmp_path, service)
        code, live, errors = litejoin(
            tmp_path, service, "record", "-c", FILE, service.name, "fixture"
        )
        assert code == 0, live + errors
        assert f"{len(service.records)} created" in live
        secrets = [value for name, value in service.secrets.items() if name.endswith(KEYS)]
    kept = b"".join(path.read_bytes() for path in (tmp_path / "fixture").iterdir()).decode()
    for secret in secrets:
        assert secret not in kept + live
    assert "00D!" not in kept
    code, replayed, errors = poll(tmp_path, service, "--replay", "fixture")
    assert code == 0, replayed + errors
    assert without_times(replayed) == without_times(live[: live.rindex("\n\n")] + "\n")
    assert not (tmp_path / "data").exists()


KEYS = ("TOKEN", "SECRET", "KEY")


def without_times(text: str) -> list[str]:
    """The lines, without how long a request took and how long a token was."""
    return re.sub(
        r" +[\d.,]+ [KM]?B +[\d,]+ ms$|, [\d.,]+ [KM]?B of bodies$", "", text, flags=re.M
    ).split("\n")


def test_it_tells_requests_pages_and_limits(tmp_path: Path) -> None:
    with GitHub(8, 3) as service:
        code, out, _ = poll(write(tmp_path, service), service)
        asked = [request.path for request in service.seen()]
    assert code == 0
    assert len(asked) == 3
    for path in asked:
        assert f"{path}  200" in " ".join(out.split(" ")) or path[:60] in out
    assert "Pages       3," in out
    assert "Records     8" in out
    assert "x-ratelimit-remaining: 4999" in out
    assert "8 created, 0 updated, 0 deleted" in out
    assert "Keys        1, 2, 3, 4, 5, ..." in out


def test_it_stops_after_the_pages_asked_for(tmp_path: Path) -> None:
    with GitHub(8, 3) as service:
        code, out, _ = poll(write(tmp_path, service), service, "--pages", "2")
        assert len(service.seen()) == 2
    assert code == 0
    assert "max_pages 2" in out
    assert "0 deleted" in out


def test_it_shows_records_and_what_auto_found(tmp_path: Path) -> None:
    with HubSpot(4, 3) as service:
        write(tmp_path, service, pagination={"type": "auto"})
        code, out, _ = poll(tmp_path, service, "--show")
    assert code == 0
    assert "Pagination  auto -> " in out
    shown = [line for line in out.splitlines() if line.startswith("+ ")]
    assert [line.split()[1] for line in shown] == ["100001", "100002", "100003", "100004"]
    assert json.loads(shown[0].split("  ", 1)[1])["properties"]["email"] == "c1@example.com"


def settled_files(rig: Rig) -> list[str]:
    """Without what the daemon is about to rename."""
    return [name for name in rig.pipeline.files("data") if not name.endswith(".tmp")]


def test_it_tells_changes_against_a_running_pipeline_and_leaves_it_alone(launch: Launcher) -> None:
    with HubSpot(8, 3) as service:
        rig = Rig(launch, [service], interval="10m").settle()
        before = settled_files(rig)
        edited, gone, made = service.edit(0)[0], service.remove(4), service.insert(8, 50)
        folder = rig.pipeline.work_dir
        code, out, errors = litejoin(
            folder, service, "poll", "-c", rig.pipeline.file.name, service.name, "--show"
        )
        assert code == 0, errors
        assert "1 created, 1 updated, 1 deleted, 6 unchanged, against the stored records" in out
        marks = [line.split("  ")[0] for line in out.splitlines() if line[:2] in ("+ ", "~ ", "- ")]
        assert marks == [f"+ {made}", f"~ {edited}", f"- {gone}"]
        assert set(rig.state(service)) == {*service.contents(), gone} - {made}
        assert settled_files(rig) == before
        rig.pipeline.assert_running()
        rig.pipeline.stop()
        again = litejoin(folder, service, "poll", "-c", rig.pipeline.file.name, service.name)[1]
        assert "1 created, 1 updated, 1 deleted, 6 unchanged, against the stored records" in again


def test_a_failed_poll_says_why_and_exits_1(tmp_path: Path) -> None:
    with HubSpot(8, 3) as service:
        write(tmp_path, service, retry={"max_attempts": 1})
        service.on_page(2, Reply(200, b"<html>\x1b[31mlog in</html>"))
        code, out, _ = poll(tmp_path, service)
    assert code == 1
    assert "FAILED: page 2" in out
    assert "\x1b" not in out


def test_an_error_of_the_service_is_shown(tmp_path: Path) -> None:
    with Slack() as service:
        write(tmp_path, service)
        service.on_page(1, service.error("invalid_auth"))
        code, out, _ = poll(tmp_path, service)
    assert code == 1
    assert '"ok":false' in out


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["hubspot-contact"], 2, "did you mean"),
        (["orders"], 2, "hubspot-contacts"),
        (["hubspot-contacts", "--pages", "0"], 2, "--pages"),
        (["hubspot-contacts", "--replay", "nowhere"], 2, "no recording in nowhere"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, args: list[str], code: int, word: str) -> None:
    with HubSpot() as service:
        write(tmp_path, service)
        done = litejoin(tmp_path, service, "poll", "-c", FILE, *args)
        assert service.seen() == []
    assert done[0] == code
    assert word in done[2]
    assert len(done[2].splitlines()) == 1


def test_a_refresh_token_is_never_used_up(tmp_path: Path) -> None:
    with Salesforce() as service:
        auth = {
            "type": "oauth2_refresh_token", "token_url": service.url + service.token_path,
            "client_id": "c", "refresh_token": "refresh-token-of-a-test",
        }  # fmt: skip
        write(tmp_path, service, auth=auth)
        for command in (
            ["poll", "-c", FILE, service.name],
            ["record", "-c", FILE, service.name, "d"],
        ):
            code, out, errors = litejoin(tmp_path, service, *command)
            assert code == 2
            assert "refresh token" in errors
            assert "refresh-token-of-a-test" not in out + errors
        assert service.seen() == []
        assert not (tmp_path / "d").exists()


def test_a_recording_that_lacks_an_answer_says_which(tmp_path: Path) -> None:
    with HubSpot(8, 3) as service:
        write(tmp_path, service)
        litejoin(tmp_path, service, "record", "-c", FILE, service.name, "fixture", "--pages", "1")
        shutil.move(tmp_path / "fixture", tmp_path / "elsewhere")
        other = source_of(service, url=f"{service.url}/crm/v3/objects/deals")
        config = push_config(Listener(), {}) | {"sources": [other]}
        (tmp_path / FILE).write_text(json.dumps(config))
        code, out, _ = poll(tmp_path, service, "--replay", "elsewhere")
    assert code == 1
    assert "no answer to GET" in out and "/crm/v3/objects/deals" in out


def test_named_fields_are_taken_out_of_a_recording(tmp_path: Path) -> None:
    with HubSpot() as service:
        write(tmp_path, service)
        command = ["record", "-c", FILE, service.name, "fixture", "--redact", "email"]
        assert litejoin(tmp_path, service, *command)[0] == 0
        kept = b"".join(p.read_bytes() for p in (tmp_path / "fixture").glob("*.body"))
        assert b"@example.com" not in kept and kept.count(b'"email": "***"') == 8
        code, out, _ = poll(tmp_path, service, "--replay", "fixture")
        assert code == 0 and "8 created" in out
        again = litejoin(tmp_path, service, *command)
        assert again[0] == 2 and "not empty" in again[2]


def test_a_pipeline_runs_offline_and_leaves_its_data_alone(
    launch: Launcher, tmp_path: Path
) -> None:
    """The service is gone, the topic shows what was recorded; data_dir is not even made."""
    with Salesforce() as service:
        write(tmp_path, service)
        record = ["record", "-c", FILE, service.name, "fixture"]
        assert litejoin(tmp_path, service, *record)[0] == 0
        at = Listener()
        config = push_config(at, {"accounts": "SELECT key FROM accounts"})
        config["sources"] = [source_of(service)]
        want = set(service.contents())
    replay = f"{service.name}={tmp_path / 'fixture'}"
    pipeline = launch(config, at.health, args=["--replay", replay], env=service.secrets)
    eventually(lambda: {r["key"] for r in snapshot(at.url, "accounts").results} == want)
    assert pipeline.stop() == 0
    assert pipeline.files() == []
    assert "poll failed" not in pipeline.log()


@pytest.mark.parametrize("value", ["fixture", "nobody=fixture", "hubspot-contacts=nowhere"])
def test_a_replay_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    with HubSpot() as service:
        write(tmp_path, service)
        code, _, errors = litejoin(tmp_path, service, "run", "-c", FILE, "--replay", value)
    assert code == 2
    assert len(errors.splitlines()) == 1
