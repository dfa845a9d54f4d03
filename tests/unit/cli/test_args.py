"""Options of a command: variables, one-line errors."""

import pytest

from litejoin.cli.args import CommandParser, add_config_options, whole_number
from litejoin.cli.main import main


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
        ({"LITEJOIN_GRACEFUL_TIMEOUT": "x"}, "LITEJOIN_GRACEFUL_TIMEOUT: 'x' could not convert"),
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


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run", "--graceful-timeout", "1m"], "'1m' must be seconds from 0 to 3600"),
        (["run", "--graceful-timeout", "nan"], "'nan' must be seconds from 0 to 3600"),
        (["dlq", "list", "--older-than", "1d"], """'1d' has no unit for days, write "24h\""""),
        (["poll", "orders-api", "--pages", "0"], "'0' must be a whole number of 1 or more"),
        (["tap", "--limit", "1.5"], "'1.5' must be a whole number of 1 or more"),
        (["check", "--release", "-1"], "'-1' must be a whole number of 0 or more"),
        (["reshard", "--shards", "4096"], "'4096' must be a whole number from 1 to 256"),
        (["restore", "--at", "yesterday"], "'yesterday' is no time such as 2026-05-01T12:00:00Z"),
        (
            ["query", "SELECT 1", "--as-of", "yesterday"],
            "'yesterday' is no time: RFC 3339, or Unix seconds",
        ),
        (["query", "SELECT 1", "--as-of", "inf"], "'inf' is no time: RFC 3339, or Unix seconds"),
        (
            ["restore", "--at", "2026-05-01"],
            "'2026-05-01' must say its zone, as 2026-05-01T12:00:00Z does",
        ),
    ],
)
def test_a_bad_value_is_told_with_its_reason(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "-c", "shop.yaml"]) == 2
    name, option = arguments[0], arguments[-2]
    told = f"litejoin {name}: argument {option}: {reason} (litejoin {name} --help)\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("text", ["1", "1024"])
def test_whole_numbers_reach_to_both_ends(text: str) -> None:
    assert whole_number(1, 1024)(text) == int(text)


def test_a_missing_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parser().parse([], {})
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "litejoin run: the following arguments are required: -c/--config (litejoin run --help)\n"
    )
