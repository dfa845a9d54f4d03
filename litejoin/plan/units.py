"""How the plan prints durations, sizes and rates: the config's own spelling, rounded for people."""

_UNITS = ((3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))


def duration_text(ms: int) -> str:
    """`90_000` -> `1m30s`, `86_400_000` -> `24h`, `0` -> `0s`: the spelling the config takes."""
    parts = []
    for size, unit in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def megabytes_text(megabytes: float) -> str:
    """`48 MB`, `2.6 GB`; below one: `under 1 MB`; nothing: `0 MB`."""
    if not megabytes:
        return "0 MB"
    if megabytes < 1:
        return "under 1 MB"
    if megabytes < 1000:
        return f"{megabytes:.0f} MB"
    return f"{megabytes / 1000:.1f} GB"


def rate_text(per_minute: float) -> str:
    """`10`, `0.5`, `1,200`, `under 0.01`: at most two decimals, no trailing zeros."""
    if 0 < per_minute < 0.01:
        return "under 0.01"
    text = f"{per_minute:,.2f}"
    return text.rstrip("0").rstrip(".") or "0"


def count_text(count: int, noun: str) -> str:
    """`1 page`, `5 pages`, `2 indexes`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}{'es' if noun.endswith(('x', 's')) else 's'}"
