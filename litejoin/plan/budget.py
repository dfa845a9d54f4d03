"""Compares what the polls of a config ask for with the rate limits that it declares.

Called by `compile`. Requests per minute = pages per poll / interval, added up over the sources that
share a limit: those of one `rate_limit.group`, else those of one host.
"""

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from litejoin.config.diagnostics import Diagnostic
from litejoin.config.values import parse_duration_ms
from litejoin.frozen import dataclass
from litejoin.plan.nodes import ApiSourcePlan, SourcePlan
from litejoin.plan.section import Section

_PAGE_BOUNDS = ("max_pages", "max_page", "max_offset", "max_records")
"""Only a bound that the config itself names is taken for a number of pages."""


@dataclass(frozen=True, slots=True)
class _Share:
    """What one source asks of a budget, in requests per minute."""

    section: Section
    name: str
    least: float
    most: float
    allowed: float | None


def check_budgets(
    sections: Sequence[Section], sources: Iterable[SourcePlan]
) -> Iterator[Diagnostic]:
    """A warning for every budget that the polls exceed; `sections` are those of `sources`."""
    budgets: dict[str, list[_Share]] = {}
    for section, source in zip(sections, sources, strict=True):
        if isinstance(source, ApiSourcePlan):
            api = section.section("api")
            group = api.section("rate_limit").maybe_text("group") or _host(source.url)
            budgets.setdefault(group, []).append(_share(api, source))
    for shares in budgets.values():
        limits = [share.allowed for share in shares if share.allowed is not None]
        if limits:
            yield from _check(shares, min(limits))


def _check(shares: list[_Share], allowed: float) -> Iterator[Diagnostic]:
    least, most = sum(share.least for share in shares), sum(share.most for share in shares)
    if most <= allowed:
        return
    strictest = next(share for share in shares if share.allowed == allowed)
    who = ", ".join(share.name for share in shares)
    asked = f"need {least:,.4g}" if least > allowed else f"may need up to {most:,.4g}"
    message = f"the polls of {who} {asked} requests a minute, rate_limit allows {allowed:,.4g}"
    factor = (least if least > allowed else most) / allowed
    hint = f"they wait for their turn; make the interval at least {factor:,.3g} times as long"
    section = strictest.section
    yield section.document.finding("LJ221", section.at("interval"), message, hint=hint)


def _share(api: Section, source: ApiSourcePlan) -> _Share:
    polls = 60_000 / source.interval_ms
    adaptive = api.section("adaptive").maybe_text("min_interval")
    fastest = max(polls, 60_000 / parse_duration_ms(adaptive)) if adaptive else polls
    pagination = api.section("pagination")
    is_bounded = any(pagination.has(key) for key in _PAGE_BOUNDS)
    pages = source.max_pages if is_bounded else source.min_pages
    return _Share(
        api, source.name, polls * source.min_pages, fastest * pages, source.allowed_per_minute
    )


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return url
