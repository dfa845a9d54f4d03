"""Pytest fixtures of the black-box suites; tests/conftest.py makes them known.

Everything started through them ends with the test (or module) that asked for it, and what the
process printed is shown with a failing test.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness.process import Pipeline
from tests.harness.scripted import Upstream, WebhookReceiver


class Launcher:
    """Starts pipelines below one directory and ends them all in `close`."""

    def __init__(self, base_dir: Path) -> None:
        self.base_dir = base_dir
        self.pipelines: list[Pipeline] = []

    def prepare(self, config: Any, *, name: str = "", **options: Any) -> Pipeline:
        """A pipeline that is not started yet; options as of `Pipeline`. One `name`, one work
        directory.
        """
        directory = self.base_dir / (name or f"pipeline{len(self.pipelines)}")
        pipeline = Pipeline(directory, config, **options)
        self.pipelines.append(pipeline)
        return pipeline

    def __call__(self, config: Any, health_url: str, **options: Any) -> Pipeline:
        """A pipeline that is started and healthy."""
        return self.prepare(config, health_url=health_url, **options).start()

    def close(self) -> None:
        for pipeline in self.pipelines:
            pipeline.close()
            print(f"=== {pipeline.work_dir.name}\n{pipeline.output()}")


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    """Starts pipelines for one test."""
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def launch_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Starts pipelines that all tests of a module share."""
    launcher = Launcher(tmp_path_factory.mktemp("shared"))
    yield launcher
    launcher.close()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    """A webhook receiver that says 200."""
    with ExitStack() as stack:
        server = WebhookReceiver()
        stack.callback(server.close)
        yield server


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An API that serves an empty JSON array."""
    with ExitStack() as stack:
        server = Upstream()
        stack.callback(server.close)
        yield server
