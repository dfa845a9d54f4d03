"""What the demo prints: one line a result, a footer to try things from, and the closing summary."""

import os
import statistics
import sys
from collections import Counter
from collections.abc import Mapping

GREEN, YELLOW, RED, DIM = "32", "33", "31", "2"
Row = Mapping[str, object]


def coloured() -> bool:
    """Colour on a terminal, unless the user said no (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def paint(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if coloured() else text


class Screen:
    """Turns results into lines; remembers the last row of each key to show before and after."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self.counts: Counter[str] = Counter()
        self.latencies_ms: list[float] = []

    def show(self, result: Mapping[str, object]) -> None:
        """Print one result object of the SSE stream."""
        key, rows = str(result["key"]), result["rows"]
        before = self._rows.pop(key, None)
        if not isinstance(rows, list) or not rows:
            self._line("-", RED, key, {}, "deleted upstream")
            return
        row: Row = rows[0]
        self._rows[key] = row
        if before is None:
            self._line("+", GREEN, key, row, "new")
        else:
            self._line("~", YELLOW, key, row, difference(before, row))

    def _line(self, sign: str, colour: str, key: str, row: Row, what: str) -> None:
        self.counts[sign] += 1
        amount = row.get("amount")
        money = f"{amount:8.2f}" if isinstance(amount, int | float) else " " * 8
        customer = str(row.get("customer", ""))[:16]
        print(f"{paint(sign, colour)} {key:<11} {customer:<16} {money}  {paint(what, colour)}")
        sys.stdout.flush()

    def summary(self, polls: int, changes: int) -> str:
        """The last lines: what was polled, what changed, what came out, how fast."""
        new, changed, gone = (self.counts[sign] for sign in "+~-")
        lines = [
            f"polls    {polls}, in which {changes} orders were new, changed or gone",
            f"results  {new + changed + gone}: {new} new, {changed} changed, {gone} deleted",
        ]
        if self.latencies_ms:
            median = statistics.median(self.latencies_ms)
            pushes = len(self.latencies_ms)
            lines.append(
                f"latency  p50 {median:.1f} ms from POST /ingest to event, pushes: {pushes}"
            )
        return "\n".join(lines)


def difference(before: Row, after: Row) -> str:
    """`pending -> paid`, for every column that changed."""
    changed = [column for column in after if before.get(column) != after[column]]
    return ", ".join(f"{before.get(column)} -> {after[column]}" for column in changed)


def footer(url: str, upstream: str, seconds: int) -> str:
    """What to open and to try while it runs."""
    push = '{"topic": "users", "key": "u1", "payload": {"name": "Your Name"}}'
    lines = [
        "",
        f"  live page      {url}/",
        f"  live stream    {url}/subscribe?join=order-user",
        f"  current state  {url}/snapshot?join=order-user",
        f"  health         {url}/health",
        f"  polled API     {upstream}/orders",
        f"  try            curl -N '{url}/subscribe?join=order-user&replay=true'",
        f"                 curl {url}/ingest -d '{push}'",
        f"  stop           Ctrl-C, or wait: it ends by itself after {seconds} s",
        "",
    ]
    return paint("\n".join(lines), DIM)
