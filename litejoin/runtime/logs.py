"""Log lines on stdout: one event, one line.

Text: `12:00:00.012 INFO  component: what happened, the figure that matters`. JSON: the same text in
`msg` plus fields. Control characters, escapes and bidirectional marks are made visible, so that
nothing a client or an API sent can forge a line or move the cursor of a terminal. When the log
cannot be written, the pipeline goes on without.
"""

import json
import logging
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def one_line(text: str) -> str:
    """`text` without characters that end a line, move a cursor or turn the direction of writing."""
    return _UNSAFE.sub(
        lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text
    )


class TextFormatter(logging.Formatter):
    """Local time of day, level, text; a traceback only when `debug`."""

    def __init__(self, *, debug: bool = False) -> None:
        super().__init__()
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone()
        level = {"WARNING": "WARN", "CRITICAL": "ERROR"}.get(record.levelname, record.levelname)
        line = (
            f"{moment:%H:%M:%S}.{int(record.msecs):03d} {level:<5} {one_line(record.getMessage())}"
        )
        if record.exc_info and self._debug:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `extra={"fields": {...}}` of a log call becomes members of it."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        level = {"WARNING": "WARN", "CRITICAL": "ERROR"}.get(record.levelname, record.levelname)
        entry = {
            "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
            "level": level,
            "logger": record.name,
            "msg": one_line(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines. A stream that takes none (a reader that went, a full disk) is told of once, on
    stderr, and then again after it has taken one.
    """

    _failing = _failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; the handler's lock is held."""
        self._failed = False
        super().emit(record)
        self._failing = self._failed

    def handleError(self, record: logging.LogRecord) -> None:
        """Called by `emit` with what was raised; a mistake in a log call is told in full."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._failed = True
        if not self._failing:
            with suppress(OSError):
                sys.stderr.write(f"litejoin: the log cannot be written: {error.strerror}\n")


def set_up_logs(log_format: str, level: str, *, debug: bool = False) -> None:
    """Send the log lines of litejoin, and warnings of the libraries, to stdout."""
    handler = LineHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(debug=debug))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # urllib3 warns about every retry and every odd header; the sources and sinks say it themselves.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.getLogger("litejoin").setLevel(level.upper())
