"""README and tutorial, run as they stand: their config, their commands, the output they show."""

import json
import shlex
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.harness.configs import Listener, substitute
from tests.harness.fixtures import Launcher
from tests.harness.sse import Subscriber
from tests.test_docs import ROOT, blocks

VARYING = ("emit_at", "seq", "id")


def curl_posts(page: Path) -> list[tuple[str, str]]:
    """(path of the URL, body) of every documented `curl URL -d BODY`, in order."""
    found = []
    for block in blocks(page):
        if block.info == "sh":
            words = shlex.split(block.text, comments=True)
            for at, word in enumerate(words):
                if word == "-d":
                    found.append((words[at - 1].partition("8080")[2], words[at + 1]))
    return found


def shown_results(page: Path) -> list[dict[str, Any]]:
    """The result objects in the output blocks of the page."""
    lines = [
        line for block in blocks(page) if block.info == "text" for line in block.text.splitlines()
    ]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def stable(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in VARYING}


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial/first-join.md"])
def test_a_documented_example_shows_what_it_says(name: str, launch: Launcher) -> None:
    page = ROOT / name
    config = next(block.text for block in blocks(page) if block.info == "yaml")
    at = Listener()
    launch(substitute(config, {"127.0.0.1:8080": at.addr}), at.health)
    expected = shown_results(page)
    posts = curl_posts(page)
    assert len(expected) == len(posts) >= 2
    with Subscriber(at.url, "order-user") as stream:
        for number, (path, body) in enumerate(posts, 1):
            # curl says application/x-www-form-urlencoded with -d, so this has to do as well.
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            request = urllib.request.Request(at.url + path, body.encode(), form)
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 200
            # One by one, as a reader types: two pushes at once may be one result.
            results = stream.wait_results(number)
    assert [stable(result) for result in results] == [stable(result) for result in expected]
    assert [set(result) for result in results] == [set(result) for result in expected]
