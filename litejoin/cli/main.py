"""The `litejoin` command: imports the module of the chosen command only, maps errors to exit codes.

Every command is a module of this package with `run(argv) -> int`. Exit codes: 0 done, 1 findings or
an unexpected failure, 2 bad usage or config, 3 data_dir in use, 4 refused start. An error is one
line on stderr that says what to do; stack traces only with `--debug`. `--help` imports no
third-party package.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NamedTuple, cast

from litejoin.cli.streams import open_closed, settle_stdout
from litejoin.errors import (
    ConfigError,
    DataDirInUseError,
    LiteJoinError,
    SinkError,
    StartRefusedError,
)


class Command(NamedTuple):
    """A command as the help lists it; its code is `litejoin.cli.<name>.run`."""

    name: str
    arguments: str
    summary: str


GROUPS: tuple[tuple[str, tuple[Command, ...]], ...] = (
    (
        "start here",
        (
            Command("init", "[TEMPLATE]", "write a small working config"),
            Command("validate", "[PATH...]", "check configs: every finding with line and column"),
            Command("plan", "-c FILE", "show what a config will do; starts and writes nothing"),
            Command("run", "-c FILE", "run a pipeline until SIGTERM or Ctrl-C"),
        ),
    ),
    (
        "look",
        (
            Command("tap", "-c FILE [NAME...]", "watch topics and results of a running pipeline"),
            Command("query", "SQL -c FILE", "ask all rows, archived ones too; changes nothing"),
            Command("why", "SINK KEY -c FILE", "which inputs made the last result of a key"),
            Command("dlq", "ACTION -c FILE", "list, show, retry or purge undelivered results"),
            Command(
                "poll", "-c FILE SOURCE", "poll an API once, store nothing, show what would change"
            ),
            Command("record", "-c FILE SOURCE DIR", "keep an API's answers, to poll them offline"),
        ),
    ),
    (
        "stored data",
        (
            Command("check", "-c FILE", "is all stored data sound? --deep reads every row"),
            Command("restore", "-c FILE", "bring lost data files back from the replica"),
            Command("reshard", "-c FILE --shards N", "spread stored keys over N files, offline"),
        ),
    ),
    (
        "words",
        (
            Command("explain", "CODE", "what a finding of validate means and how to fix it"),
            Command("schema", "", "print the JSON Schema of the config, for editors"),
            Command("version", "", "versions of litejoin, SQLite and Python"),
        ),
    ),
)

COMMANDS = {command.name: command for _, commands in GROUPS for command in commands}

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_IN_USE = 3
EXIT_REFUSED = 4
EXIT_INTERRUPTED = 130


def help_text() -> str:
    """The text of `litejoin --help`; fits a screen of 24 lines."""
    lines = ["usage: litejoin COMMAND [OPTIONS]      COMMAND --help shows its options", ""]
    for title, commands in GROUPS:
        lines.append(f"{title}:")
        lines += [f"  {f'{c.name} {c.arguments}':<27}{c.summary}" for c in commands]
    lines += ["", "example: litejoin init > shop.yaml && litejoin run -c shop.yaml"]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: `sys.argv`) and return the exit code. Never raises."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = _take_debug(args)
    open_closed()
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal that cannot show a character gets its escape, not a failed command.
        sys.stdout.reconfigure(errors="backslashreplace")
    code = _guarded(args, debug)
    settle_stdout()
    return code


def _guarded(args: list[str], debug: bool) -> int:
    try:
        code = _dispatch(args)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: --help is 0, a usage error is 2
        return stop.code if isinstance(stop.code, int) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED  # the reader went away (`| head`)
    except Exception as error:
        if debug:
            _show_trace(error)
        return _report(error)


def _take_debug(args: list[str]) -> bool:
    """Remove `--debug` wherever it stands, so that every command takes it."""
    found = "--debug" in args
    while "--debug" in args:
        args.remove("--debug")
    return found


def _dispatch(args: list[str]) -> int:
    if not args:
        sys.stderr.write(help_text())
        return EXIT_USAGE
    name, rest = args[0], args[1:]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("-h", "--help", "help"):
        sys.stdout.write(help_text())
        return 0
    if name in ("-V", "--version"):
        name = "version"
    if name not in COMMANDS:
        return _unknown(name)
    module = import_module(f"litejoin.cli.{name}")
    return cast(int, module.run(rest))


def _unknown(name: str) -> int:
    from difflib import get_close_matches  # only on this path: --help stays free of it

    kind = "option" if name.startswith("-") else "command"
    near = get_close_matches(name, COMMANDS, n=1)
    hint = f'did you mean "{near[0]}"?' if near else "litejoin --help lists the commands"
    sys.stderr.write(f'litejoin: unknown {kind} "{name}" ({hint})\n')
    return EXIT_USAGE


def _show_trace(error: Exception) -> None:
    from traceback import print_exception  # only on this path

    print_exception(error, file=sys.stderr)


def _report(error: Exception) -> int:
    if isinstance(error, LiteJoinError):
        hint = f" ({error.hint})" if error.hint else ""
        sys.stderr.write(f"litejoin: {error.code}: {_one_line(error)}{hint}\n")
    else:
        what = f"{type(error).__name__}: {_one_line(error)}"
        sys.stderr.write(f"litejoin: unexpected error: {what} (--debug shows where)\n")
    if isinstance(error, ConfigError):
        return EXIT_USAGE
    if isinstance(error, DataDirInUseError):
        return EXIT_IN_USE
    if isinstance(error, (StartRefusedError, SinkError)):
        return EXIT_REFUSED
    return EXIT_FAILED


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
