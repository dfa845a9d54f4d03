"""A wall clock that jumps: polls go on at their pace, nothing is deleted, nothing expires."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.sse import Subscriber
from tests.services.rig import Rig
from tests.services.shapes import Stations

SHIM = Path(__file__).with_name("clock_shim.c")


@pytest.fixture(scope="module")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that moves the wall clock of a process by what a file says."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "the native modules need a C compiler, and so does this test"
    built = tmp_path_factory.mktemp("shim") / "clock_shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, SHIM, "-ldl"], check=True)
    return built


@pytest.mark.parametrize("jump_s", [7200, -7200, 10 * 365 * 86400], ids=["+2h", "-2h", "+10y"])
def test_a_clock_that_jumps_changes_nothing(
    launch: Launcher, clock_shim: Path, tmp_path: Path, jump_s: int
) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    with Stations(50) as service:
        env = {"LD_PRELOAD": str(clock_shim), "TEST_CLOCK_OFFSET": str(offset)}
        retention = {"retention": {"duration": "1h", "clean_interval": "1s"}}
        rig = Rig(launch, [service], sections=retention, env=env, watermark=None)
        rig.settle()
        with Subscriber(rig.at.url) as stream:
            offset.write_text(str(jump_s))
            polls = service.walks
            service.wait_complete(6)
            assert service.walks >= polls + 6
            assert stream.results() == []
            edited = service.edit(3)
            stream.wait_results(1)
            assert [r["key"] for r in stream.results()] == edited
        rig.settle()
        rig.pipeline.assert_running()
