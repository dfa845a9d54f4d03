"""One `litejoin run` process, started and ended as an operator does it.

Owns: a work directory with the config file, the child process, its two output files. The child runs
in its own session with the work directory as working directory, so a relative `data_dir` lands
there. Ends only what it started: by pid, and by the process group that the child leads. Never looks
inside the program: only exit codes, output, files and `/proc`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import urllib3
import yaml

from tests.harness.waiting import SLOW

REPOSITORY = Path(__file__).resolve().parents[2]
LITEJOIN = (sys.executable, "-m", "litejoin")


class ExitedEarly(AssertionError):
    """The process ended while a test was waiting for it to answer."""


def _orphan_guard() -> tuple[str, ...]:
    # Without it a SIGKILLed pytest would leave its pipelines running.
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL") if setpriv else ()


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without LITEJOIN_* settings, with the repository importable."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LITEJOIN_")}
    env["PYTHONPATH"] = str(REPOSITORY)
    env.pop("PYTHONWARNINGS", None)
    env.update(extra or {})
    return env


class Pipeline:
    """A config and the process that runs it; may be started again after it ended (same data_dir).

    `config` is YAML text or a dict. `health_url` is polled by `start`. `command` replaces
    `python -m litejoin run -c FILE` (the harness's own tests use a stand-in).
    """

    def __init__(
        self,
        work_dir: Path,
        config: str | Mapping[str, object],
        *,
        health_url: str = "",
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        command: Sequence[str] | None = None,
        file_name: str = "pipeline.yaml",
    ) -> None:
        self.work_dir = work_dir
        work_dir.mkdir(parents=True, exist_ok=True)
        self.file = work_dir / file_name
        text = (
            config
            if isinstance(config, str)
            else yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        )
        self.file.write_text(text, encoding="utf-8")
        self.health_url = health_url
        self.env = dict(env or {})
        self.args = list(args)
        self.command = list(command or (*LITEJOIN, "run", "-c", file_name))
        self.started_in_s = 0.0
        self._child: subprocess.Popen[bytes] | None = None
        self._stdout = work_dir / "stdout.log"
        self._stderr = work_dir / "stderr.log"

    # -- life --------------------------------------------------------------------------------------

    def spawn(self) -> "Pipeline":
        """Start the process and return at once."""
        assert self.exit_code is not None or self._child is None, "already running"
        with self._stdout.open("ab") as out, self._stderr.open("ab") as err:
            self._child = subprocess.Popen(
                [*_orphan_guard(), *self.command, *self.args],
                cwd=self.work_dir, env=clean_environment(self.env),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
        return self

    def start(self, timeout_s: float = 20.0) -> "Pipeline":
        """Start and wait until `/health` answers 200; `started_in_s` tells how long that took."""
        began = time.monotonic()
        self.spawn()
        self.wait_healthy(timeout_s)
        self.started_in_s = time.monotonic() - began
        return self

    def wait_healthy(self, timeout_s: float = 20.0) -> None:
        """Wait until `/health` answers 200. Raises ExitedEarly if the process ends first."""
        deadline = time.monotonic() + timeout_s * SLOW
        with urllib3.PoolManager(retries=False, timeout=2.0) as pool:
            while True:
                if self.exit_code is not None:
                    raise ExitedEarly(
                        f"exit code {self.exit_code} before /health answered\n{self.output()}"
                    )
                try:
                    if pool.request("GET", self.health_url).status == 200:
                        return
                except urllib3.exceptions.HTTPError:
                    pass
                if time.monotonic() > deadline:
                    raise AssertionError(
                        f"{self.health_url} not 200 in {timeout_s} s\n{self.output()}"
                    )
                time.sleep(0.01)

    def run_to_exit(self, timeout_s: float = 20.0) -> int:
        """Start, expect the process to end by itself, and return its exit code."""
        self.spawn()
        return self.wait_exit(timeout_s)

    def wait_exit(self, timeout_s: float = 20.0) -> int:
        """The exit code; fails if the process still runs after `timeout_s`."""
        assert self._child is not None, "never started"
        try:
            return self._child.wait(timeout_s * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still running after {timeout_s * SLOW} s\n{self.output()}"
            ) from None

    def signal(self, number: int) -> None:
        """Send a signal to the process (not to its group, as an init system would)."""
        assert self._child is not None and self._child.poll() is None, "not running"
        self._child.send_signal(number)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, wait, return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_exit(timeout_s)

    def kill(self) -> None:
        """SIGKILL: what a power cut looks like to everybody but the page cache."""
        self.signal(signal.SIGKILL)
        self.wait_exit(10)

    def restart(self, timeout_s: float = 20.0) -> "Pipeline":
        """Kill -9 and start again on the same data."""
        self.kill()
        return self.start(timeout_s)

    def close(self) -> None:
        """End the process and whatever it left in its group. Safe to call at any time."""
        child = self._child
        if child is None:
            return
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait(10)

    # -- what can be seen from outside -------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._child is not None, "never started"
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while running (or never started)."""
        return None if self._child is None else self._child.poll()

    def assert_running(self) -> None:
        """The process is alive and has not reported a crash of its own."""
        assert self.exit_code is None, f"exit code {self.exit_code}\n{self.output()}"
        assert "Traceback (most recent call last)" not in self.output(), self.output()

    def rss_mb(self) -> float:
        """Resident memory now, in MB (10^6 bytes)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def reset_peak_rss(self) -> None:
        """Let `peak_rss_mb` count from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_rss_mb(self) -> float:
        """The highest resident memory since `reset_peak_rss` (or the start), in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return int(kib) * 1024 / 1e6

    def cpu_s(self) -> float:
        """CPU time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log(self) -> str:
        """Standard output so far, over all starts."""
        return self._read(self._stdout)

    def errors(self) -> str:
        """Standard error so far, over all starts."""
        return self._read(self._stderr)

    def output(self) -> str:
        """Both, for messages."""
        return f"--- stdout\n{self.log()[-8000:]}\n--- stderr\n{self.errors()[-8000:]}"

    def files(self, under: str = "") -> list[str]:
        """Paths below the work directory, without the harness's own files."""
        base = self.work_dir / under
        own = {self._stdout, self._stderr, self.file}
        return sorted(
            str(p.relative_to(base)) for p in base.rglob("*") if p.is_file() and p not in own
        )

    @staticmethod
    def _read(path: Path) -> str:
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def run_command(
    *args: str, work_dir: Path, env: Mapping[str, str] | None = None, timeout_s: float = 30.0
) -> "subprocess.CompletedProcess[str]":
    """Run a one-shot `litejoin ARGS` to its end and return code, stdout and stderr."""
    return subprocess.run(
        [*LITEJOIN, *args], cwd=work_dir, env=clean_environment(env), timeout=timeout_s * SLOW,
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
