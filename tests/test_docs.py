"""The docs tell the truth: generated pages are fresh, paths exist, configs validate, links resolve.

Covers README, CONTRIBUTING, CHANGELOG and every page under docs/. A YAML block is a whole config
and must validate without errors; one that shows a part is fenced as ```` ```yaml fragment ````.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from docs.tools import generate

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("bench/**/*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


class Block(NamedTuple):
    """A fenced block: where it starts, the words after the fence, its text."""

    page: str
    line: int
    info: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    inside: list[str] | None = None
    start, info = 0, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = re.match(r"\s*```(.*)$", line)
        if fence and inside is None:
            start, info, inside = number, fence[1].strip(), []
        elif fence and inside is not None:
            yield Block(str(page.relative_to(ROOT)), start, info, "\n".join(inside) + "\n")
            inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, f"{page}:{start}: the fence is never closed"


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


BLOCKS = [block for page in PAGES for block in blocks(page)]


def test_generated_pages_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_path_named_exists(page: Path) -> None:
    """`litejoin/store/shard.py` in backquotes is a promise that the file is there."""
    tops = "litejoin|_ext|schemas|tests|bench|docs|examples|tools|requirements|\\.ci"
    named = re.findall(rf"`((?:{tops})/[^`\s]*)`", prose(page))
    missing = [name for name in named if not any(True for _ in expand(name))]
    assert not missing


def expand(name: str) -> Iterator[Path]:
    """The files a name means: `_ext/*.pyx` and `litejoin/{store,engine}` mean several."""
    braces = re.match(r"(.*)\{([^}]*)\}(.*)", name)
    if braces:
        for choice in braces[2].split(","):
            yield from expand(braces[1] + choice.strip() + braces[3])
    else:
        yield from ROOT.glob(name.rstrip("/"))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_relative_link_resolves(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose(page))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert not [link for link in local if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_make_lane_named_exists(page: Path) -> None:
    lanes = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
    named |= set(re.findall(r"^\s*make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= lanes


def test_python_blocks_compile() -> None:
    for block in BLOCKS:
        if block.info == "python":
            compile(block.text, f"{block.page}:{block.line}", "exec", dont_inherit=True)
