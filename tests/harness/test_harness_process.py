"""The process wrapper, tried on a stand-in daemon."""

import sys
import time
from pathlib import Path

import pytest

from tests.harness.configs import Listener, substitute
from tests.harness.fixtures import Launcher
from tests.harness.process import ExitedEarly, Pipeline
from tests.harness.waiting import eventually, never

STAND_IN = str(Path(__file__).with_name("stand_in.py"))


def stand_in(launch: Launcher, *args: str) -> Pipeline:
    at = Listener()
    return launch.prepare(
        "name: x\n", health_url=at.health, command=[sys.executable, STAND_IN, str(at.port), *args]
    )


def test_start_waits_for_health_and_stop_returns_the_exit_code(launch: Launcher) -> None:
    pipeline = stand_in(launch).start()
    assert 0 < pipeline.started_in_s < 20
    assert 1 < pipeline.rss_mb() < 500
    assert "asked for /health" in pipeline.log()
    assert pipeline.stop() == 0


def test_a_process_that_ends_early_is_reported_with_its_output(launch: Launcher) -> None:
    with pytest.raises(ExitedEarly, match="(?s)exit code 3.*going away"):
        stand_in(launch, "--exit", "3").start()


def test_a_process_that_does_not_end_fails_the_wait(launch: Launcher) -> None:
    pipeline = stand_in(launch, "--deaf").start()
    with pytest.raises(AssertionError, match="still running"):
        pipeline.stop(0.2)
    pipeline.restart()
    pipeline.assert_running()


def test_close_ends_the_process_and_its_children(launch: Launcher) -> None:
    pipeline = stand_in(launch, "--child").start()
    child = int(pipeline.log().split("child ")[1].split()[0])
    pipeline.close()
    assert pipeline.exit_code == -9
    eventually(lambda: not _alive(child))


def _alive(pid: int) -> bool:
    # A killed orphan may stay a zombie until init collects it.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_substitution_fails_when_the_text_is_not_there() -> None:
    assert substitute('addr: ":80"', {'":80"': '":81"'}) == 'addr: ":81"'
    with pytest.raises(AssertionError, match="does not occur"):
        substitute("addr: 1", {":9100": ":1"})


def test_waiting_reports_the_last_complaint_and_never_fails_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"not so after .* still 0"):
        eventually(lambda: 0, 0.05)
    with pytest.raises(AssertionError, match="must not: 1"):
        never(lambda: 1, 5)
    assert time.monotonic() - began < 4
