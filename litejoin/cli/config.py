"""Loads and compiles the config that `plan` and `run` were given, and tells what is wrong with it.

Both commands go through `load`, so they cannot disagree about a config.
"""

import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from litejoin.config import Diagnostic, load_config
from litejoin.errors import ConfigError
from litejoin.plan.compile import compile_plan
from litejoin.plan.nodes import Plan

STDIN = "-"
MAX_ENV_FILE_BYTES = 1 << 20
"""As a config; more is a wrong file."""

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config as far as it could be compiled: `plan` is None when it has errors."""

    file: str
    plan: Plan | None
    findings: list[Diagnostic]
    secrets: frozenset[str]


def load(options: Namespace) -> Loaded:
    """Compile the config of `add_config_options`. Raises ConfigError for a file it cannot read."""
    env = {**(env_file(Path(options.env_file)) if options.env_file else {}), **os.environ}
    from_stdin = options.config == STDIN
    document, findings = load_config(
        sys.stdin.buffer.read() if from_stdin else Path(options.config),
        env=env,
        sets=options.overrides,
        no_env_check=getattr(options, "no_env_check", False),
    )
    if document is None:
        return Loaded(options.config, None, findings, frozenset())
    plan, more = compile_plan(document)
    return Loaded(document.file, plan, sorted([*findings, *more]), document.secrets)


def load_plan(options: Namespace) -> Plan | None:
    """The plan of a config, or None after its errors were written to stderr."""
    loaded = load(options)
    if loaded.plan is None:
        report(loaded)
    return loaded.plan


def report(loaded: Loaded) -> None:
    """Write the findings to stderr, one a line, and what to do next."""
    for finding in loaded.findings:
        sys.stderr.write(f"{line_of(finding)}\n")
    errors = sum(finding.level == "error" for finding in loaded.findings)
    count = f"{errors} error{'s' if errors != 1 else ''}"
    sys.stderr.write(
        f"{count}; nothing was started (litejoin validate {loaded.file} shows where)\n"
    )


def line_of(finding: Diagnostic) -> str:
    """`file:line:column: CODE level: message`, with the hint behind it."""
    place = f"{finding.file}:{finding.line}:{finding.column}"
    hint = f" ({finding.hint})" if finding.hint else ""
    return f"{place}: {finding.code} {finding.level}: {finding.message}{hint}"


def env_file(path: Path) -> dict[str, str]:
    """The variables of a file of NAME=value lines. Raises ConfigError with the line's number.

    Blank lines and lines that start with # count for nothing; `export ` before a name and quotes
    around a value are dropped; nothing is expanded.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ENV_FILE_BYTES + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no UTF-8 text") from None
    if len(data) > MAX_ENV_FILE_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB")
    return _variables(path, text.splitlines())


def _variables(path: Path, lines: Iterable[str]) -> dict[str, str]:
    variables = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            # Not the line itself: it may hold a secret.
            raise ConfigError(
                f"{path}:{number}: not a NAME=value line", hint="comments start with #"
            )
        value = match[2].strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        variables[match[1]] = value
    return variables
