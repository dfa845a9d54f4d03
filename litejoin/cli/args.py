"""Command-line parsing shared by the commands: one-line errors and `LITEJOIN_*` variables.

A command makes a `CommandParser`, adds its arguments and calls `parse`. Every option that has a
long name can also be given as a variable: `--log-format` as LITEJOIN_LOG_FORMAT; the command line
wins. An option that may be repeated takes one value a line; those of the command line come after.
Switches take 1/0, true/false, yes/no, on/off.

A `type` of an argument raises ValueError with what the text fails ("must be 1 or more"); the user
reads it behind the text.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

_SWITCH = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False, "": False,
}  # fmt: skip


class _Help(argparse.HelpFormatter):
    """The usual layout, in a width that is found without importing shutil (and all compressions).

    argparse makes a formatter for every argument that is added, help or not.
    """

    def __init__(self, prog: str) -> None:
        try:
            columns = os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError):
            columns = 80
        super().__init__(prog, width=(columns or 80) - 2)


class CommandParser(argparse.ArgumentParser):
    """The parser of one command. `name` is the word after `litejoin`."""

    usage_exit_code = 2
    """Exit code of wrong usage. A command to which 2 means something else sets another."""

    def __init__(self, name: str, description: str, example: str = "") -> None:
        super().__init__(
            prog=f"litejoin {name}",
            description=description,
            epilog=f"example: {example}" if example else None,
            allow_abbrev=False,
            formatter_class=_Help,
        )

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """Argparse's own, which says the reason of a `type` instead of the function's name."""
        if "type" in options:
            options["type"] = _telling(options["type"])
        return super().add_argument(*names, **options)

    def parse(
        self, argv: Sequence[str], environ: Mapping[str, str] | None = None
    ) -> argparse.Namespace:
        """Parse; unset options come from `environ` (default: the process's). Exits when wrong."""
        self._take_variables(os.environ if environ is None else environ)
        # Intermixed: `validate a.yaml --format json b.yaml` names two files.
        return self.parse_intermixed_args(argv)

    def error(self, message: str) -> NoReturn:
        """One line that says what to do, instead of argparse's usage block."""
        self.exit(self.usage_exit_code, f"{self.prog}: {message} ({self.prog} --help)\n")

    def variables(self) -> dict[str, argparse.Action]:
        """The options by the name of their variable."""
        found = {}
        for action in self._actions:
            long_names = [o for o in action.option_strings if o.startswith("--")]
            if long_names and action.dest != "help":
                found["LITEJOIN_" + long_names[0][2:].replace("-", "_").upper()] = action
        return found

    def _take_variables(self, environ: Mapping[str, str]) -> None:
        for variable, action in self.variables().items():
            text = environ.get(variable)
            if text is None:
                continue
            action.default = self._value(variable, action, text)
            action.required = False

    def _value(self, variable: str, action: argparse.Action, text: str) -> object:
        if action.nargs == 0:
            switched = _SWITCH.get(text.strip().lower())
            if switched is None:
                self.error(f"{variable} must be 1 or 0, not {text!r}")
            return switched
        lines = text.splitlines() if isinstance(action.default, list) else [text]
        values = [self._convert(variable, action, line) for line in lines if line or not lines[1:]]
        return values if isinstance(action.default, list) else values[0]

    def _convert(self, variable: str, action: argparse.Action, text: str) -> object:
        try:
            value = action.type(text) if callable(action.type) else text
        except argparse.ArgumentTypeError as error:
            self.error(f"{variable}: {error}")
        if action.choices is not None and value not in action.choices:
            known = ", ".join(str(choice) for choice in action.choices)
            self.error(f"{variable} must be one of {known}, not {text!r}")
        return value


def _telling(convert: Callable[[str], object]) -> Callable[[str], object]:
    def converted(text: str) -> object:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from None

    return converted


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A `type` of arguments: a whole number from `least` to `most`."""
    bounds = f"of {least} or more" if most is None else f"from {least} to {most}"

    def convert(text: str) -> int:
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None
        if number is None or number < least or (most is not None and number > most):
            raise ValueError(f"must be a whole number {bounds}")
        return number

    return convert


def add_config_options(parser: CommandParser) -> None:
    """The options by which `plan` and `run` name a config: `config`, `env_file`, `overrides`."""
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="the config file")
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        help="NAME=value lines that ${NAME} in the config can use; the environment wins",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="PATH=VALUE",
        help="replace one value, such as storage.shard_count=4; can be repeated",
    )
