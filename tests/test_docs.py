"""The docs tell the truth: generated pages are fresh, paths exist, configs validate, links resolve.

Covers README, CONTRIBUTING, CHANGELOG and every page under docs/. A YAML block is a whole config
and must validate without errors; one that shows a part is fenced as ```` ```yaml fragment ````.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

import pytest

from docs.tools import commands_page, generate
from litejoin.cli.main import COMMANDS, main

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


def commands(text: str) -> Iterator[list[str]]:
    """The command lines of a shell block as words; quoted texts may run over lines."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, "#"
    words: list[str] = []
    for word in [*lexer, "\n"]:
        if set(word) <= set(";&|\n"):
            if words:
                yield words
            words = []
        else:
            words.append(word)


BLOCKS = [block for page in PAGES for block in blocks(page)]


def test_generated_pages_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_path_named_exists(page: Path) -> None:
    """`litejoin/store/shard.py` in backquotes is a promise that the file is there."""
    tops = "litejoin|_ext|schemas|tests|bench|docs|examples|tools|requirements|\\.ci"
    named = re.findall(rf"`((?:{tops})/[^`\s]*)`", prose(page))
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    made = [line.strip("/") for line in ignored if line.startswith("/")]
    kept = [name for name in named if name.strip("/") not in made]
    assert not [name for name in kept if not any(True for _ in expand(name))]


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


CONFIGS = [
    pytest.param(block.text, id=f"{block.page}:{block.line}")
    for block in BLOCKS
    if block.info == "yaml"
] + [
    pytest.param(path.read_text(), id=str(path.relative_to(ROOT)))
    for path in sorted((ROOT / "examples").rglob("*.yaml"))
]


@pytest.mark.parametrize("text", CONFIGS)
def test_every_config_validates(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `litejoin validate` sees it, SQL included; warnings are for the reader to judge."""
    config = tmp_path / "config.yaml"
    config.write_text(text)
    assert main(["validate", str(config)]) == 0, capsys.readouterr().out


def test_yaml_that_is_no_config_says_so() -> None:
    infos = {block.info for block in BLOCKS if "yaml" in block.info or "yml" in block.info}
    assert infos <= {"yaml", "yaml fragment"}


def test_python_blocks_compile() -> None:
    for block in BLOCKS:
        if block.info == "python":
            compile(block.text, f"{block.page}:{block.line}", "exec", dont_inherit=True)


def log_texts() -> Iterator[str]:
    """The text of every log call in litejoin/, and of the monitor line, with X for each value."""
    for path in (ROOT / "litejoin").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[-.0-9]*[a-z]", "X", node.value).replace("%%", "%")
            elif isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "X" for p in node.values]
                yield "".join(map(str, parts))


def test_documented_log_lines_are_logged() -> None:
    """Operators grep for them. Words in capitals, and single letters, stand for values."""
    texts = list(log_texts())
    missing = []
    for line in re.findall(r"^\| `(.*?)` \|", (ROOT / LOGS).read_text(), re.MULTILINE):
        # What went wrong is often made elsewhere than where it is logged behind its component.
        inner = line.partition(": ")[2]
        is_telling = len(re.findall(r"\b[a-z]+\b", inner)) >= 4
        forms = [logged_form(line), *([logged_form(inner)] if is_telling else [])]
        if not any(re.match(form, text) for text in texts for form in forms):
            missing.append(line)
    assert not missing


def logged_form(line: str) -> str:
    parts = re.split(r"\b[A-Z]+\b", line)
    return ".*".join(re.escape(part.replace("\\|", "|")) for part in parts)


LOGS = Path("docs/reference/logs.md")

PROGRAMS = {"litejoin", "curl", "make", "git", "cd", "sudo", "python", "pip", "source"}
"""What a documented command line may start with; litejoin's own are checked to the option."""

SHELL_LINES = [
    pytest.param(words, id=f"{block.page}:{block.line}")
    for block in BLOCKS
    if block.info == "sh"
    for words in commands(block.text)
]


@pytest.mark.parametrize("words", SHELL_LINES)
def test_documented_commands_exist(words: list[str]) -> None:
    """The command is one we know, its file is there, and every option is one of its parser."""
    words = list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words))
    assert words[0] in PROGRAMS
    if words[0] == "python" and not words[1].startswith("-"):
        assert (ROOT / words[1]).exists()
    if words[0] != "litejoin" or words[1].startswith("-"):
        return
    assert words[1] in COMMANDS
    known = set(commands_page.parser_of(words[1])._option_string_actions)
    given = {word.split("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
    assert given <= known | {"--debug"}
