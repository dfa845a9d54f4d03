"""The directory of a recording: what goes in comes out, and nothing else is taken for one."""

import json
from pathlib import Path

import pytest

from litejoin.errors import ConfigError
from litejoin.sources.tape.fixture import Exchange, FixtureWriter, read_fixture

PAGE = Exchange("GET", "https://x/?page=1", None, 200, {"link": "<u>"}, b'[{"id":1e400}]\xff')
LOGIN = Exchange("POST", "https://x/token", "grant_type=x", 429, {"retry-after": "1"}, b"")


def record(directory: Path) -> None:
    writer = FixtureWriter(directory, "orders", "2026-01-01T00:00:00.000Z")
    writer.add(PAGE)
    writer.add(LOGIN)
    assert len(writer) == 2


def test_what_was_recorded_is_read_again(tmp_path: Path) -> None:
    record(tmp_path / "fixture")
    assert read_fixture(tmp_path / "fixture") == [PAGE, LOGIN]


def test_how_an_answer_travelled_is_not_kept(tmp_path: Path) -> None:
    writer = FixtureWriter(tmp_path, "orders", "")
    headers = {"content-encoding": "gzip", "content-length": "5", "etag": "x"}
    writer.add(Exchange("GET", "https://x", None, 200, headers, b"[]"))
    assert read_fixture(tmp_path)[0].headers == {"etag": "x"}


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    record(tmp_path / "fixture")
    assert (tmp_path / "fixture").stat().st_mode & 0o077 == 0
    for path in (tmp_path / "fixture").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        record(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: (d / "0002.body").unlink(),
        lambda d: (d / "fixture.json").unlink(),
        lambda d: (d / "fixture.json").write_text("{"),
        lambda d: (d / "fixture.json").write_text("[]"),
        lambda d: (d / "fixture.json").write_text(json.dumps({"format": 2, "exchanges": []})),
        lambda d: (d / "fixture.json").write_text(json.dumps({"format": 1, "exchanges": [{}]})),
    ],
    ids=["no body", "no manifest", "cut", "no object", "another format", "no exchange"],
)
def test_a_damaged_recording_is_refused_with_its_name(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    record(tmp_path / "fixture")
    damage(tmp_path / "fixture")
    with pytest.raises(ConfigError, match="fixture"):
        read_fixture(tmp_path / "fixture")
