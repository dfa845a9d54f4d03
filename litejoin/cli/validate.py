"""`litejoin validate`: checks configs and prints every finding. Starts and writes nothing.

Exit codes: 0 clean (warnings allowed unless --deny-warnings), 1 findings, 2 a bad command line or a
file that cannot be read.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from litejoin.cli.args import CommandParser
from litejoin.errors import ConfigError

if TYPE_CHECKING:
    from litejoin.config import Diagnostic

FORMATS = ("full", "concise", "json", "github", "sarif")

_SUFFIXES = (".yaml", ".yml")


def run(argv: Sequence[str]) -> int:
    """Check the configs that the command line names and print the findings; the exit code."""
    parser = _parser()
    options = parser.parse(argv)
    # Only now: `validate --help` needs none of the compiler.
    from litejoin.config import read_config, read_env_file

    environment = dict(os.environ)
    unreadable = 0
    texts: dict[str, str] = {}
    findings: list[Diagnostic] = []
    try:
        if options.env_file is not None:
            environment = {**read_env_file(Path(options.env_file)), **environment}
        paths = list(_files(options.paths))
    except ConfigError as error:
        parser.error(str(error))
    for path in paths:
        try:
            data = read_config(path) if path is not None else sys.stdin.buffer.read(_STDIN_LIMIT)
        except ConfigError as error:
            sys.stderr.write(f"{parser.prog}: {error}\n")
            unreadable += 1
            continue
        name = "<stdin>" if path is None else str(path)
        texts[name] = data.decode("utf-8", "replace")
        findings += _check(name, data, environment, options.overrides, options.no_env_check)
    if texts or options.format != "full":
        sys.stdout.write(_rendered(findings, texts, options.format))
    if unreadable:
        return 2
    counted = findings if options.deny_warnings else [f for f in findings if f.level == "error"]
    return 1 if counted else 0


_STDIN_LIMIT = (1 << 20) + 1
"""One byte more than a config may have: the loader then says that it is too large."""


def _parser() -> CommandParser:
    parser = CommandParser(
        "validate",
        "Check configs: every finding with its line and column, a code and what to do.",
        "litejoin validate shop.yaml --format github --deny-warnings",
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", default=["."],
        help="files, directories (their .yaml and .yml files) or - for stdin; default: .",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=FORMATS, default="full", help="full (default), concise, json, ..."
    )
    parser.add_argument("--deny-warnings", action="store_true", help="warnings fail, too")
    parser.add_argument(
        "--no-env-check",
        action="store_true",
        help="variables need not be set; a placeholder stands for them",
    )
    parser.add_argument(
        "--env-file", metavar="FILE", help="NAME=value lines for ${NAME}; the environment wins"
    )
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="PATH=VALUE",
        help="check with one value replaced, such as storage.shard_count=4; can be repeated",
    )  # fmt: skip
    return parser


def _files(paths: Sequence[str]) -> Iterator[Path | None]:
    """The files to check, each once; None is stdin. Raises ConfigError for an empty directory."""
    seen: set[str] = set()
    for name in paths or ["."]:
        path = Path(name)
        found: list[Path | None] = [None] if name == "-" else [path]
        if path.is_dir():
            found = list(_in_directory(path))
            if not found:
                raise ConfigError(f"no .yaml or .yml file in {path}")
        for each in found:
            if str(each) not in seen:
                seen.add(str(each))
                yield each


def _in_directory(folder: Path) -> Iterator[Path]:
    """YAML files below a directory, sorted; hidden files and folders are left out."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _in_directory(path)
        elif path.suffix in _SUFFIXES and path.is_file():
            yield path


def _check(
    name: str,
    data: bytes,
    environment: dict[str, str],
    overrides: Sequence[str],
    no_env_check: bool,
) -> "list[Diagnostic]":
    from litejoin.config import load_config
    from litejoin.plan.compile import compile_plan

    document, findings = load_config(
        data, env=environment, sets=overrides, no_env_check=no_env_check, file=name
    )
    if document is None:
        return findings
    _, more = compile_plan(document)
    return document.visible([*findings, *more])


def _rendered(findings: "list[Diagnostic]", texts: dict[str, str], form: str) -> str:
    from litejoin.cli import findings as printer

    if form == "full":
        return printer.full(findings, texts, colors=printer.use_colors(sys.stdout))
    render = {
        "concise": printer.concise,
        "json": printer.as_json,
        "github": printer.github,
        "sarif": printer.sarif,
    }[form]
    return render(findings)
