"""What `poll` prints, as text for people. Writes nothing; every text from outside is escaped."""

from collections.abc import Iterable, Iterator

from litejoin.cli.polling import Found, Noted
from litejoin.config.text import printable
from litejoin.sources.api.probe import PollReport

LABEL_WIDTH = 12
SHOWN_REQUESTS = 20
SHOWN_KEYS = 5
URL_CHARS = 100
RECORD_CHARS = 2000
"""Longest record that --show prints whole."""


def poll_text(found: Found) -> str:
    """The whole report, newline at the end."""
    report = found.report
    lines = [
        f"{found.source.name}   {_outcome(report)}, nothing stored",
        "",
        "Requests",
        *_requests(found.requests),
        "",
        *_facts(found),
    ]
    return "\n".join(lines) + "\n"


def _outcome(report: PollReport) -> str:
    if report.error:
        return f"FAILED: {printable(report.error)}"
    if report.incomplete:
        return f"incomplete: {printable(report.incomplete)}"
    return "complete"


def _requests(requests: tuple[Noted, ...]) -> Iterator[str]:
    shown = requests[:SHOWN_REQUESTS]
    urls = [printable(request.url) for request in shown]
    cut = [url if len(url) <= URL_CHARS else url[: URL_CHARS - 3] + "..." for url in urls]
    width = max((len(url) for url in cut), default=0)
    for request, url in zip(shown, cut, strict=True):
        status = str(request.status) if request.status else "---"
        size = _bytes(request.size)
        yield f"  {request.method:<4} {url:<{width}}  {status}  {size:>9}  {request.took_ms:>6,} ms"
    if len(requests) > len(shown):
        yield f"  and {len(requests) - len(shown):,} more"
    if not requests:
        yield "  none"


def _facts(found: Found) -> Iterator[str]:
    report = found.report
    read = sum(request.size for request in found.requests)
    yield _fact("Pages", f"{report.pages:,}, {_bytes(read)} of bodies")
    yield _fact("Pagination", _pagination(found))
    yield _fact("Records", _records(report))
    keys = [*report.created, *report.updated, *report.deleted]
    if keys:
        yield _fact("Keys", _keys(keys))
    limits = ", ".join(f"{name}: {printable(text)}" for name, text in report.rate_limits.items())
    yield _fact("Rate limit", limits or "no header tells of one")
    against = "the stored records" if found.compared else "nothing: this source has stored nothing"
    yield _fact("Changes", f"{_changes(report)}, against {against}")


def _fact(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}}{text}"


def _pagination(found: Found) -> str:
    kind = found.source.paging.kind
    effective = found.report.pagination
    return f"{kind} -> {effective}" if kind == "auto" and effective != kind else effective


def _records(report: PollReport) -> str:
    notes = (
        (report.keyless, "without a usable key"),
        (report.duplicates, "with a key that came before"),
    )
    more = [f"{count:,} {what}" for count, what in notes if count]
    return ", ".join([f"{report.records:,}", *more])


def _keys(keys: list[str]) -> str:
    shown = ", ".join(printable(key) for key in keys[:SHOWN_KEYS])
    return f"{shown}, ..." if len(keys) > SHOWN_KEYS else shown


def _changes(report: PollReport) -> str:
    parts = [
        f"{len(report.created):,} created",
        f"{len(report.updated):,} updated",
        f"{len(report.deleted):,} deleted",
        f"{report.unchanged:,} unchanged",
    ]
    if report.held:
        parts.append(f"{report.held:,} gone at once, held until the next poll agrees")
    if report.waiting:
        parts.append(f"{report.waiting:,} gone once, deleted when the next poll agrees")
    return ", ".join(parts)


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:,.1f} KB" if count < 1_000_000 else f"{count / 1e6:,.1f} MB"


def records_text(report: PollReport) -> str:
    """The records that changed, one a line: `+` created, `~` updated, `-` deleted."""
    lines = [
        *_marked("+", report.created, report),
        *_marked("~", report.updated, report),
        *(f"- {printable(key)}" for key in report.deleted),
    ]
    return "".join(f"{line}\n" for line in ["", *lines]) if lines else ""


def _marked(mark: str, keys: Iterable[str], report: PollReport) -> Iterator[str]:
    for key in keys:
        record = printable(report.payloads[key].decode("utf-8", "replace"))
        cut = record if len(record) <= RECORD_CHARS else record[: RECORD_CHARS - 3] + "..."
        yield f"{mark} {printable(key)}  {cut}"
