"""`make demo` as a newcomer sees it: all kinds of lines, a summary, exit 0, nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.waiting import SLOW

ROOT = Path(__file__).resolve().parents[2]
RUN_DEMO = ROOT / "examples" / "demo" / "run_demo.py"
LINE = re.compile(r"^([+~-]) (order_\d+) ", re.MULTILINE)


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(RUN_DEMO), "--every", "0.1", *arguments]
    env = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def processes_of(tmp_path: Path) -> list[int]:
    """Live processes that work in the demo's temporary folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"TMPDIR={tmp_path}\0".encode() in environment:
                found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_a_short_run_shows_new_changed_and_deleted(tmp_path: Path) -> None:
    demo = start(tmp_path, "--seconds", "8")
    output, _ = demo.communicate(timeout=90 * SLOW)
    assert demo.returncode == 0, output
    signs = [match[1] for match in LINE.finditer(output)]
    assert set(signs) == {"+", "~", "-"}, output
    assert re.search(r"^~ .* \w+ -> \w+$", output, re.MULTILINE), output
    assert "stopped cleanly" in output
    results = re.search(r"^results +(\d+):", output, re.MULTILINE)
    assert results
    assert int(results[1]) == len(signs)
    assert re.search(r"^latency +p50 \d+\.\d ms", output, re.MULTILINE), output
    assert re.search(r"^polls +[1-9]", output, re.MULTILINE), output
    assert "curl http://127.0.0.1:" in output
    assert not list(tmp_path.iterdir())
    assert not processes_of(tmp_path)


@pytest.mark.slow
def test_ctrl_c_ends_it_with_the_summary(tmp_path: Path) -> None:
    demo = start(tmp_path)
    assert demo.stdout is not None
    seen = ""
    while not LINE.search(seen):
        line = demo.stdout.readline()
        assert line, seen
        seen += line
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=60 * SLOW)
    assert demo.returncode == 0, seen + output
    assert "results " in output
    assert not processes_of(tmp_path)


@pytest.mark.slow
def test_a_broken_part_is_shown_and_ends_the_demo(tmp_path: Path) -> None:
    """A pipeline that cannot start: exit 1, with its own words."""
    env = os.environ | {
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "LITEJOIN_LOG_LEVEL": "no",
    }
    command = [sys.executable, str(RUN_DEMO), "--seconds", "5"]
    demo = subprocess.run(
        command, env=env, text=True, capture_output=True, timeout=60 * SLOW, check=False
    )
    assert demo.returncode == 1
    assert "LITEJOIN_LOG_LEVEL" in demo.stderr
    assert not processes_of(tmp_path)
