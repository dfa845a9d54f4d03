"""Loads and compiles the config that `plan` and `run` were given, and tells what is wrong with it.

Both commands go through `load`, so they cannot disagree about a config.
"""

import os
import sys
from argparse import Namespace
from pathlib import Path

from litejoin.cli.findings import full, use_colors
from litejoin.config import Diagnostic, load_config, read_config, read_env_file
from litejoin.config.diagnostics import json_object
from litejoin.config.load import MAX_BYTES
from litejoin.frozen import dataclass
from litejoin.plan.compile import compile_plan
from litejoin.plan.nodes import Plan

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config as far as it could be compiled: `plan` is None when it has errors."""

    file: str
    text: str
    plan: Plan | None
    findings: list[Diagnostic]
    secrets: frozenset[str]
    is_named: bool = False
    """The config says its name; otherwise it is called like its file."""


def load(options: Namespace) -> Loaded:
    """Compile the config of `add_config_options`. Raises ConfigError for a file it cannot read."""
    variables = read_env_file(Path(options.env_file)) if options.env_file else {}
    file, data = _read(options.config)
    document, findings = load_config(
        data,
        env={**variables, **os.environ},
        sets=options.overrides,
        no_env_check=getattr(options, "no_env_check", False),
        file=file,
    )
    text = data.decode("utf-8", "replace")
    if document is None:
        return Loaded(file, text, None, findings, frozenset())
    plan, more = compile_plan(document)
    visible = document.visible([*findings, *more])
    return Loaded(file, text, plan, visible, document.secrets, document.has("/name"))


def _read(config: str) -> tuple[str, bytes]:
    """The name and the bytes of a config; a byte too many tells the loader that it is too large."""
    if config == STDIN:
        return "<stdin>", sys.stdin.buffer.read(MAX_BYTES + 1)
    return config, read_config(Path(config))


def load_plan(options: Namespace) -> Plan | None:
    """The plan of a config, or None after its errors were written to stderr."""
    loaded = load(options)
    if loaded.plan is None:
        report(loaded)
    return loaded.plan


def plan_json(loaded: Loaded, plan: Plan) -> str:
    """The JSON form of a plan, for `plan` and for the daemon that runs it."""
    from litejoin.plan.explain import explain  # not for `run`, unless somebody asks

    warnings = [json_object(finding) for finding in loaded.findings]
    return explain(plan, "json", warnings, loaded.secrets)


def report(loaded: Loaded) -> None:
    """Write the findings to stderr as `validate` shows them."""
    texts = {loaded.file: loaded.text}
    sys.stderr.write(full(loaded.findings, texts, colors=use_colors(sys.stderr)))
