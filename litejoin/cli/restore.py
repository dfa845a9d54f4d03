"""`litejoin restore -c FILE`: bring data files back from the replica, and say what came back.

Into the data directory only files that are missing are restored, while no pipeline runs on it.
With `--to` everything goes into another, empty directory, beside a running pipeline: a drill.
"""

import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from litejoin.cli.args import CommandParser, add_config_options
from litejoin.cli.config import load_plan
from litejoin.errors import ConfigError, StartRefusedError
from litejoin.plan.nodes import Plan
from litejoin.replica.binary import require_litestream
from litejoin.replica.fetch import Replica
from litejoin.replica.settle import Restored
from litejoin.replica.verify import Verified, verify
from litejoin.runtime.replication import restore, target_of, write_litestream_yml
from litejoin.store.files import make_directory
from litejoin.store.layout import Layout
from litejoin.store.lock import DirectoryLock


def run(argv: Sequence[str]) -> int:
    """0: done, or nothing was missing; 1: a file is not sound, or the replica cannot be had; 2:
    usage or config; 3: in use; 4: files that do not belong together, or an empty replica.
    """
    options = _parser().parse(argv)
    plan = load_plan(options)
    if plan is None:
        return 2
    layout = Layout(Path(options.to) if options.to else plan.storage.data_dir)
    if options.at and not options.to:
        raise ConfigError("--at needs --to", hint="an earlier state belongs into a new directory")
    make_directory(layout.root)
    lock = DirectoryLock.acquire(layout.lock, plan.name)
    try:
        found = _restore(plan, layout, options)
        verified = _verify(plan, layout, options) if options.verify else []
    finally:
        lock.release()
    if options.format == "json":
        body = {"data_dir": str(layout.root), "restored": asdict(found) if found else None}
        print(json.dumps({**body, "verified": [asdict(each) for each in verified]}, indent=1))
    return 1 if any(each.problem for each in verified) else 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "restore",
        "Restore the data files that are missing from the replica (replication.replica_url), and"
        " report up to when. What is there is never replaced. The pipeline must not run, unless"
        " --to names another directory.",
        "litejoin restore -c shop.yaml --to /tmp/drill --verify",
    )
    add_config_options(parser)
    parser.add_argument("--to", metavar="DIR", help="restore everything into this empty directory")
    parser.add_argument(
        "--verify", action="store_true", help="check every row, page, result and dead letter"
    )
    parser.add_argument(
        "--at", metavar="TIME", type=_time, help="as of this time (RFC 3339) instead of the newest"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="form of the answer"
    )
    return parser


def _time(text: str) -> str:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is no time such as 2026-05-01T12:00:00Z") from None
    if time.tzinfo is None:
        raise ValueError("must say its zone, as 2026-05-01T12:00:00Z does")
    return text


def _restore(plan: Plan, layout: Layout, options: Namespace) -> Restored | None:
    if plan.replication is None:
        raise ConfigError("the config has no replication", hint="set replication.enabled: true")
    if options.to and any(layout.root.glob("*.db")):
        raise StartRefusedError(f"{layout.root} has data files already", hint="name an empty one")
    program = require_litestream()
    with tempfile.TemporaryDirectory(prefix="litejoin-restore-") as folder:
        config = write_litestream_yml(plan, plan.replication, Layout(Path(folder)))
        replica = Replica(program, plan.replication, config, options.at)
        found = restore(plan, target_of(plan, layout), replica, lambda text: None)
    if found is None and not layout.manifest.exists():
        raise StartRefusedError(f"the replica {plan.replication.shown_url} is empty")
    if options.format == "text":
        _tell(found, layout)
    return found


def _tell(found: Restored | None, layout: Layout) -> None:
    if found is None:
        print(f"nothing is missing in {layout.root}")
        return
    for file in found.files:
        flush = f"  flush {file.flush}" if file.flush is not None else ""
        print(f"{file.file:<15} {file.bytes / 1e6:>10,.1f} MB  up to {file.upto or '?'}{flush}")
    print(
        f"restored {len(found.files)} files into {layout.root} up to {found.upto or '?'},"
        f" {found.rpo_s:,} s before now: what was written after that is lost"
    )
    for notice in found.notices:
        print(f"  {notice}")


def _verify(plan: Plan, layout: Layout, options: Namespace) -> list[Verified]:
    dlq = target_of(plan, layout).dlq
    checked = []
    for each in verify(layout, plan.storage.shard_count, dlq):
        checked.append(each)
        if options.format == "text":
            print(_line(each), flush=True)
    bad = sum(1 for each in checked if each.problem)
    if options.format == "text":
        print(f"{len(checked)} files verified: {'all is sound' if not bad else f'{bad} not sound'}")
    sys.stdout.flush()
    return checked


def _line(each: Verified) -> str:
    text = each.problem or ", ".join(f"{k} {_shown(v)}" for k, v in each.figures.items())
    return f"{each.file:<15} {'damaged' if each.problem else 'ok':<8} {text}".rstrip()


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
