"""The command line itself: help, exit codes, one-line errors, and what it imports."""

import os
import shlex
import subprocess
import sys
import types

import pytest

from litejoin.cli import main as cli
from litejoin.errors import (
    ConfigError,
    DataDirInUseError,
    LiteJoinError,
    StartRefusedError,
)


def command_that(monkeypatch: pytest.MonkeyPatch, outcome: object) -> None:
    """Make `litejoin run` return or raise `outcome`."""

    def run(argv: list[str]) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, int)
        return outcome

    module = types.ModuleType("litejoin.cli.run")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litejoin.cli.run", module)


def test_help_fits_a_screen_and_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 24
    assert max(len(line) for line in out.splitlines()) <= 100
    for name in cli.COMMANDS:
        assert f"\n  {name} " in out


@pytest.mark.parametrize("args", [["-h"], ["help"]])
def test_help_has_its_usual_names(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 0
    assert capsys.readouterr().out == cli.help_text()


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == cli.help_text()


def test_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["valdate", "x.yaml"]) == 2
    assert capsys.readouterr().err == (
        'litejoin: unknown command "valdate" (did you mean "validate"?)\n'
    )


def test_unknown_option_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--frobnicate"]) == 2
    assert capsys.readouterr().err == (
        'litejoin: unknown option "--frobnicate" (litejoin --help lists the commands)\n'
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (DataDirInUseError("x"), 3),
        (StartRefusedError("x"), 4),
        (LiteJoinError("x"), 1),
        (RuntimeError("x"), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(2), 2),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    command_that(monkeypatch, error)
    assert cli.main(["run"]) == code


def test_an_error_is_one_line_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that(monkeypatch, DataDirInUseError("held by\npid 7", hint="stop it first"))
    assert cli.main(["run"]) == 3
    assert capsys.readouterr().err == "litejoin: LJ-LOCK: held by pid 7 (stop it first)\n"


def test_a_stack_trace_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that(monkeypatch, RuntimeError("broken"))
    assert cli.main(["run"]) == 1
    err = capsys.readouterr().err
    assert err == "litejoin: unexpected error: RuntimeError: broken (--debug shows where)\n"
    assert cli.main(["run", "--debug"]) == 1
    trace = capsys.readouterr().err
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith(f"\nRuntimeError: broken\n{err}")


def test_debug_does_not_change_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that(monkeypatch, DataDirInUseError("held by pid 7", hint="stop it first"))
    assert cli.main(["run", "--debug"]) == 3
    trace, _, line = capsys.readouterr().err[:-1].rpartition("\n")
    assert "Traceback" in trace
    assert line == "litejoin: LJ-LOCK: held by pid 7 (stop it first)"


def test_the_commands_own_code_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    command_that(monkeypatch, 4)
    assert cli.main(["run"]) == 4


@pytest.mark.parametrize("args", [["--help"], ["plan", "--help"], ["init", "--help"]], ids=" ".join)
def test_help_imports_no_third_party_package(args: list[str]) -> None:
    # What makes --help slow is imports, so they are what is checked; a timing would depend on load.
    script = (
        f"import sys; from litejoin.cli.main import main; main({args})\n"
        "heavy = {'apsw', 'sqlglot', 'jsonschema', 'yaml', 'uvloop', 'urllib3', 'msgspec'}\n"
        "heavy.add('asyncio')\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_module_and_command_are_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "litejoin", "help"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == cli.help_text()


def test_a_closed_pipe_is_not_an_error_message() -> None:
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -c 'import litejoin.cli.main as m, sys; "
        'm.help_text = lambda: "x" * 1_000_000; sys.exit(m.main(["--help"]))\' | head -c 1',
        shell=True, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("x", "")


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("> /dev/full", 1, "litejoin: unexpected error: OSError: [Errno 28] No space left on device"
         " (--debug shows where)\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_closed_or_full_output_has_its_exit_code(
    redirected: str, code: int, said: str, buffered: str
) -> None:
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m litejoin help {redirected}",
        shell=True, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": buffered},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_version_names_all_three(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["litejoin", "sqlite", "python"]
