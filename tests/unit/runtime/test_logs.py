"""One event is one line, whatever a client or an API sent."""

import json
import logging
from io import StringIO

import pytest

from litejoin.runtime.logs import JsonFormatter, LineHandler, TextFormatter, one_line


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


class Disk(StringIO):
    """A stream that takes nothing while it is full."""

    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_log_that_cannot_be_written_is_told_once_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk = Disk()
    handler = LineHandler(disk)
    for message, full in (("a", 1), ("b", 1), ("c", 0), ("d", 1), ("e", 1), ("f", 0)):
        disk.full = bool(full)
        handler.emit(record(message))
    assert disk.getvalue() == "c\nf\n"
    told = "litejoin: the log cannot be written: No space left on device\n"
    assert capsys.readouterr().err == told * 2


def test_a_mistake_in_a_log_call_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    LineHandler(StringIO()).emit(record("%d rows", "many"))
    assert "TypeError" in capsys.readouterr().err
