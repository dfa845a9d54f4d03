"""Clients cannot use up the files that the process may open."""

import dataclasses
import logging
import resource

import pytest

from litejoin.runtime import open_files, server
from tests.unit.runtime.serving import LIMITS, Client, ask, get, plan, serving

NO_END = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "limit", "may"),
    [
        (1024, 524_288, 3_000, (3_000, 524_288), 3_000),
        (1024, 2_048, 3_000, (2_048, 2_048), 2_048),
        (1024, NO_END, 3_000, (3_000, NO_END), 3_000),
        (4_096, 4_096, 3_000, None, 3_000),
        (NO_END, NO_END, 3_000, None, 3_000),
    ],
)
def test_the_limit_is_raised_as_far_as_it_goes_and_is_needed(
    monkeypatch: pytest.MonkeyPatch,
    soft: int,
    hard: int,
    wanted: int,
    limit: tuple[int, int] | None,
    may: int,
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert open_files.allow_files(wanted) == may
    assert asked == ([limit] if limit else [])


def test_connections_leave_files_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted: list[int] = []

    def allow_files(files: int) -> int:
        wanted.append(files)
        return 256 + 3

    monkeypatch.setattr(server, "allow_files", allow_files)
    limits = dataclasses.replace(LIMITS, max_connections=50)
    with caplog.at_level(logging.WARNING), serving(server=plan(limits=limits)) as running:
        assert wanted == [256 + 50]
        assert "takes 3 connections, not 50" in caplog.text
        with Client(running.port), Client(running.port), Client(running.port):
            assert ask(running.port, get("/health")).status == 503
