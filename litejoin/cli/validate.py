"""`litejoin validate`: checks configs and prints every finding. Starts and writes nothing.

Exit codes: 0 clean (warnings allowed unless --deny-warnings), 1 findings or a failed probe of
--connect, 2 a bad command line or a file that cannot be read.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from litejoin.cli.args import CommandParser
from litejoin.errors import ConfigError

if TYPE_CHECKING:
    from litejoin.cli.probes import Probe
    from litejoin.config import Diagnostic, Document

FORMATS = ("full", "concise", "json", "github", "sarif")

_SUFFIXES = (".yaml", ".yml")


class _Checked(NamedTuple):
    """One config: its text for excerpts, what was found, and the document when it is sound."""

    name: str
    text: str
    findings: "list[Diagnostic]"
    document: "Document | None"


def run(argv: Sequence[str]) -> int:
    """Check the configs that the command line names and print the findings; the exit code."""
    parser = _parser()
    options = parser.parse(argv)
    # Only now: `validate --help` needs none of the compiler.
    from litejoin.config import read_env_file

    environment = dict(os.environ)
    try:
        if options.env_file is not None:
            environment = {**read_env_file(Path(options.env_file)), **environment}
        paths = list(_files(options.paths))
    except ConfigError as error:
        parser.error(str(error))
    checked: list[_Checked] = []
    for path in paths:
        try:
            checked.append(_check(path, environment, options.overrides, options.no_env_check))
        except ConfigError as error:
            sys.stderr.write(f"{parser.prog}: {error}\n")
    if checked or options.format != "full":
        sys.stdout.write(_rendered(checked, options.format))
    probes = _probed(checked, options.format) if options.connect else []
    if len(checked) < len(paths):
        return 2
    return 1 if _fails(checked, probes, options.deny_warnings) else 0


def _fails(checked: Sequence[_Checked], probes: "Sequence[Probe]", deny_warnings: bool) -> bool:
    levels = {finding.level for each in checked for finding in each.findings}
    outcomes = {probe.level for probe in probes}
    failed = "error" in levels or "fail" in outcomes
    return failed or (deny_warnings and ("warning" in levels or "warn" in outcomes))


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
        "--connect",
        action="store_true",
        help="also try whether URLs, brokers, sinks and addresses can be reached",
    )
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
    path: Path | None, environment: dict[str, str], overrides: Sequence[str], no_env_check: bool
) -> _Checked:
    """Check one file, or stdin for None. Raises ConfigError when it cannot be read."""
    from litejoin.config import load_config, read_config
    from litejoin.plan.compile import compile_plan

    data = read_config(path) if path is not None else sys.stdin.buffer.read(_STDIN_LIMIT)
    name = "<stdin>" if path is None else str(path)
    text = data.decode("utf-8", "replace")
    document, findings = load_config(
        data, env=environment, sets=overrides, no_env_check=no_env_check, file=name
    )
    if document is None:
        return _Checked(name, text, findings, None)
    plan, more = compile_plan(document)
    found = document.visible([*findings, *more])
    return _Checked(name, text, found, None if plan is None else document)


def _rendered(checked: Sequence[_Checked], form: str) -> str:
    from litejoin.cli import findings as printer

    findings = [finding for each in checked for finding in each.findings]
    if form == "full":
        texts = {each.name: each.text for each in checked}
        return printer.full(findings, texts, colors=printer.use_colors(sys.stdout))
    render = {
        "concise": printer.concise,
        "json": printer.as_json,
        "github": printer.github,
        "sarif": printer.sarif,
    }[form]
    return render(findings)


def _probed(checked: Sequence[_Checked], form: str) -> "list[Probe]":
    """Probe what the sound configs name; the lines go to stderr where stdout is for machines."""
    from litejoin.cli import connect

    out = sys.stdout if form in ("full", "concise") else sys.stderr
    probes: list[Probe] = []
    for each in checked:
        prefix = f"{each.name}: " if len(checked) > 1 else ""
        if each.document is None:
            out.write(f"{prefix}not probed: the config has errors\n")
            continue
        done = connect.probe(each.document)
        out.writelines(connect.lines(done, prefix))
        probes += done
    return probes
