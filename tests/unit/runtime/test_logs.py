"""One event is one line, whatever a client or an API sent."""

import json
import logging

import pytest

from litejoin.runtime.logs import JsonFormatter, TextFormatter, one_line


def record(message: str, *args: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("litejoin.x", level, __file__, 1, message, args, None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\tc", "a\\x0ab\\x0d\\x09c"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eevil", "\\u202eevil"),
        ("\u2028line", "\\u2028line"),
        ("\ud800", "\\ud800"),
        ("grüße 日本", "grüße 日本"),
    ],
)
def test_what_ends_a_line_or_moves_a_cursor_is_made_visible(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert one_line(shown) == shown


def test_text_lines_have_time_level_and_message() -> None:
    line = TextFormatter().format(record("store: %d shards", 8, level=logging.WARNING))
    assert line[12:] == " WARN  store: 8 shards"
    assert line[2] == line[5] == ":"


def test_json_lines_carry_the_same_text_and_fields() -> None:
    entry = record("poll failed (%d/5)\nforged", 1, level=logging.ERROR)
    entry.fields = {"source": "x"}
    decoded = json.loads(JsonFormatter().format(entry))
    assert decoded["msg"] == "poll failed (1/5)\\x0aforged"
    assert (decoded["level"], decoded["source"]) == ("ERROR", "x")
