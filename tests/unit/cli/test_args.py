"""Options of a command: variables, one-line errors."""

import pytest

from litejoin.cli.args import CommandParser, add_config_options


def parser() -> CommandParser:
    made = CommandParser("run", "Run.")
    add_config_options(made)
    made.add_argument("--log-format", choices=("text", "json"), default="text")
    made.add_argument("--graceful-timeout", type=float, default=25.0)
    made.add_argument("--quiet", action="store_true")
    return made


def test_variables_stand_in_for_options() -> None:
    options = parser().parse(
        [],
        {
            "LITEJOIN_CONFIG": "a.yaml",
            "LITEJOIN_ENV_FILE": ".env",
            "LITEJOIN_SET": "name=x\nstorage.shard_count=2",
            "LITEJOIN_LOG_FORMAT": "json",
            "LITEJOIN_GRACEFUL_TIMEOUT": "3",
            "LITEJOIN_QUIET": "yes",
        },
    )
    assert options.config == "a.yaml"
    assert options.env_file == ".env"
    assert options.overrides == ["name=x", "storage.shard_count=2"]
    assert options.log_format == "json"
    assert options.graceful_timeout == 3.0
    assert options.quiet is True


def test_the_command_line_wins_over_variables() -> None:
    environ = {"LITEJOIN_CONFIG": "a.yaml", "LITEJOIN_LOG_FORMAT": "json"}
    options = parser().parse(["-c", "b.yaml", "--log-format", "text"], environ)
    assert (options.config, options.log_format) == ("b.yaml", "text")


def test_overrides_of_the_command_line_come_last() -> None:
    options = parser().parse(["-c", "b", "--set", "name=b"], {"LITEJOIN_SET": "name=a"})
    assert options.overrides == ["name=a", "name=b"]


def test_defaults_hold_without_either() -> None:
    options = parser().parse(["-c", "b.yaml"], {})
    assert (options.log_format, options.quiet, options.overrides) == ("text", False, [])


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"LITEJOIN_LOG_FORMAT": "xml"},
            "LITEJOIN_LOG_FORMAT must be one of text, json, not 'xml'",
        ),
        ({"LITEJOIN_QUIET": "maybe"}, "LITEJOIN_QUIET must be 1 or 0, not 'maybe'"),
        ({"LITEJOIN_GRACEFUL_TIMEOUT": "x"}, "LITEJOIN_GRACEFUL_TIMEOUT: could not convert"),
    ],
)
def test_a_bad_variable_is_a_usage_error(
    environ: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parser().parse(["-c", "x"], environ)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_missing_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parser().parse([], {})
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "litejoin run: the following arguments are required: -c/--config (litejoin run --help)\n"
    )
