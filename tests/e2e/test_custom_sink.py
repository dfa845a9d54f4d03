"""A user's own sink: examples/custom_sink, installed as a package and run by the real command."""

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.harness.configs import Listener, substitute
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import REPOSITORY, clean_environment
from tests.harness.waiting import eventually

EXAMPLE = REPOSITORY / "examples" / "custom_sink"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the example into, as a user's environment has it."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "--disable-pip-version-check", "--root-user-action=ignore",
        "--target", str(folder), str(copy_of(EXAMPLE, tmp_path_factory.mktemp("example"))),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=120)
    return folder


def copy_of(package: Path, folder: Path) -> Path:
    """Building leaves files behind, which are not for the repository."""
    for file in package.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


class LineReceiver:
    """Keeps the results it said `ok` to; `answer` may say otherwise."""

    def __init__(self) -> None:
        self.results: list[dict[str, object]] = []
        self.answers: list[bytes] = []
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    answer = receiver.answers.pop(0) if receiver.answers else b"ok\n"
                    if answer == b"ok\n":
                        receiver.results.append(json.loads(line))
                    if not answer:
                        return
                    self.wfile.write(answer)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])


@pytest.fixture
def lines() -> Iterator[LineReceiver]:
    receiver = LineReceiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def test_the_example_is_found_run_retried_and_parked(
    launch: Launcher, installed: Path, lines: LineReceiver
) -> None:
    at = Listener()
    text = substitute(
        (EXAMPLE / "lines.yaml").read_text(),
        {"127.0.0.1:8080": at.addr, "port: 7000": f"port: {lines.port}", "1s": "100ms"},
    )
    # The first attempt is cut, one result is refused for good.
    lines.answers = [b"", b"no I know it\n"]
    path = os.pathsep.join((str(REPOSITORY), str(installed)))
    pipeline = launch(text, at.health, env={"PYTHONPATH": path})
    with IngestClient(at.url) as client:
        client.send([message("orders", f"o{n}", {"amount": 99 + n}) for n in range(6)])
    eventually(lambda: len(lines.results) == 3)
    assert {str(r["key"]) for r in lines.results} < {"o2", "o3", "o4", "o5"}
    listed = subprocess.run(
        [sys.executable, "-m", "litejoin", "dlq", "list", "-c", pipeline.file.name,
         "--format", "json"],
        cwd=pipeline.work_dir, env=clean_environment(), capture_output=True, text=True,
        check=True, timeout=30,
    )  # fmt: skip
    (parked,) = json.loads(listed.stdout)
    assert (parked["error"], parked["next_retry_at"]) == ("I know it", None)
    pipeline.stop()


def test_a_sink_that_no_package_brings_refuses_the_start(launch: Launcher, installed: Path) -> None:
    config = yaml.safe_load((EXAMPLE / "lines.yaml").read_text())
    config["sinks"][0]["uses"] = "pigeons"
    config["sources"][0]["config"]["addr"] = Listener().addr
    path = os.pathsep.join((str(REPOSITORY), str(installed)))
    pipeline = launch.prepare(config, env={"PYTHONPATH": path})
    assert pipeline.run_to_exit() == 4
    assert "no installed package has a sink 'pigeons'; there are: lines" in pipeline.output()
