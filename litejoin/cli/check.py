"""`litejoin check -c FILE`: is everything in the data directory what was written?

Also beside a running pipeline, which it does not disturb. `--release` needs the pipeline stopped.
"""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

from litejoin.cli.args import CommandParser, add_config_options, whole_number
from litejoin.cli.config import load_plan
from litejoin.clock import SystemClock
from litejoin.plan.nodes import Plan
from litejoin.store.check import Finding, check_directory, release
from litejoin.store.layout import Layout


def run(argv: Sequence[str]) -> int:
    """0: everything is sound, 1: something is not, 2: usage or config, 3: in use (--release), 4:
    not a directory of this config.
    """
    options = _parser().parse(argv)
    plan = load_plan(options)
    if plan is None:
        return 2
    layout = Layout(plan.storage.data_dir)
    if options.release is not None:
        return _release(options, plan, layout)
    started_ms = SystemClock().monotonic_ms()
    findings = []
    dlq, count = plan.delivery.dlq.path, plan.storage.shard_count
    for finding in check_directory(layout, count, dlq, deep=options.deep):
        findings.append(finding)
        if options.format == "text":
            print(_line(finding), flush=True)
    bad = [finding for finding in findings if finding.status != "ok"]
    if options.format == "json":
        body = {"data_dir": str(layout.root), "deep": options.deep, "ok": not bad}
        print(json.dumps({**body, "files": [asdict(f) for f in findings]}, indent=1))
    else:
        seconds = (SystemClock().monotonic_ms() - started_ms) / 1000
        print(_summary(len(findings), len(bad), seconds, options.deep))
    return 1 if bad else 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "check",
        "Check the data directory: catalogue, high-water marks and newest rows; with --deep every"
        " row and page. A running pipeline is not disturbed.",
        "litejoin check --deep -c shop.yaml",
    )
    add_config_options(parser)
    parser.add_argument("--deep", action="store_true", help="compare every row and every page")
    parser.add_argument(
        "--release",
        type=whole_number(0),
        metavar="SHARD",
        help="take a shard out of quarantine if a deep check finds nothing; commits that it lacks"
        " are given up. Stop the pipeline first",
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="form of the answer"
    )
    return parser


def _release(options: Namespace, plan: Plan, layout: Layout) -> int:
    finding = release(layout, plan.storage.shard_count, options.release, plan.name)
    if options.format == "json":
        print(json.dumps(asdict(finding), indent=1))
    else:
        print(_line(finding))
        is_sound = finding.status == "ok"
        print("released: the next start uses it" if is_sound else "still quarantined")
    return 0 if finding.status == "ok" else 1


def _line(finding: Finding) -> str:
    text = f"{finding.file:<15} {finding.status:<11}"
    if finding.rows is not None and finding.bytes is not None:
        text += f" {finding.rows:>13,} rows {finding.bytes / 1e6:>10,.1f} MB"
    return f"{text} {finding.reason}".rstrip()


def _summary(files: int, bad: int, seconds: float, deep: bool) -> str:
    how = "checked" if deep else "looked at (--deep compares every row)"
    if not bad:
        return f"{files} files {how} in {seconds:.1f} s: all is sound"
    return f"{files} files {how} in {seconds:.1f} s: {bad} not sound"
