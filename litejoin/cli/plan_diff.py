"""Loads both sides of `litejoin plan --diff` and `--diff-data-dir`; reads, and writes nothing."""

import json
from argparse import Namespace
from typing import NamedTuple

from litejoin.cli.config import Loaded, load, report
from litejoin.errors import StartRefusedError
from litejoin.plan.compare import Comparison, compare_deployed, compare_plans, refused
from litejoin.plan.nodes import Plan
from litejoin.plan.redact import hidden_values


class Compared(NamedTuple):
    """A comparison, the plan it is about, and what must not be shown of either side."""

    comparison: Comparison
    plan: Plan
    secrets: frozenset[str]


def against_config(options: Namespace) -> Compared | None:
    """FILE against OTHER; None after the errors of one of them were written to stderr.

    `--set` is about FILE only. A pipeline that neither file names is the same pipeline.
    """
    after = load(options)
    other = Namespace(**{**vars(options), "config": options.diff, "overrides": []})
    before = load(other)
    if not after.is_named and not before.is_named and after.plan and options.diff != "-":
        other.overrides = [f"name={json.dumps(after.plan.name)}"]
        before = load(other)
    if after.plan is None or before.plan is None:
        for loaded in (before, after):
            if loaded.plan is None:
                report(loaded)
        return None
    secrets = after.secrets | hidden_values(before.plan, before.secrets)
    return Compared(compare_plans(before.plan, after.plan), after.plan, secrets)


def against_data_dir(options: Namespace) -> Compared | None:
    """FILE against the data directory that it names."""
    # Not for --diff: it needs no SQLite files.
    from litejoin.store.peek import peek

    loaded: Loaded = load(options)
    plan = loaded.plan
    if plan is None:
        report(loaded)
        return None
    root = plan.storage.data_dir
    try:
        deployed = peek(root, plan.storage.shard_count, plan.delivery.dlq.path)
    except StartRefusedError as error:
        return Compared(refused(str(error), error.hint, str(root)), plan, loaded.secrets)
    return Compared(compare_deployed(deployed, plan), plan, loaded.secrets)
