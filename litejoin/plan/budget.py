"""Compares what the polls of a config ask for with the rate limits that it declares.

Called by `compile`; the figures are those of `requests`.
"""

from collections.abc import Iterable, Iterator, Sequence

from litejoin.config.diagnostics import Diagnostic
from litejoin.plan.nodes import ApiSourcePlan, SourcePlan
from litejoin.plan.requests import Budget, budgets, requests_of
from litejoin.plan.section import Section

_PAGE_BOUNDS = ("max_pages", "max_page", "max_offset", "max_records")
"""Only a bound that the config itself names is taken for a number of pages."""

Polled = tuple[ApiSourcePlan, Section]


def check_budgets(
    sections: Sequence[Section], sources: Sequence[SourcePlan]
) -> Iterator[Diagnostic]:
    """A warning for every budget that the polls exceed; `sections` are those of `sources`."""
    polled: dict[str, Polled] = {
        source.name: (source, section.section("api"))
        for section, source in zip(sections, sources, strict=True)
        if isinstance(source, ApiSourcePlan)
    }
    for budget in budgets(sources):
        if budget.allowed is not None:
            yield from _check(budget, budget.allowed, [polled[name] for name in budget.sources])


def _check(budget: Budget, allowed: float, polled: Iterable[Polled]) -> Iterator[Diagnostic]:
    members = list(polled)
    most = sum(_most(source, api) for source, api in members)
    if most <= allowed:
        return
    exceeds = budget.least > allowed
    asked = f"need {budget.least:,.4g}" if exceeds else f"may need up to {most:,.4g}"
    who = ", ".join(budget.sources)
    message = f"the polls of {who} {asked} requests a minute, rate_limit allows {allowed:,.4g}"
    factor = (budget.least if exceeds else most) / allowed
    hint = f"they wait for their turn; make the interval at least {factor:,.3g} times as long"
    api = next(api for source, api in members if source.allowed_per_minute == allowed)
    yield api.document.finding("LJ221", api.at("interval"), message, hint=hint)


def _most(source: ApiSourcePlan, api: Section) -> float:
    """Requests a minute at the fastest pace, of as many pages as the config itself speaks of."""
    requests = requests_of(source)
    if any(api.section("pagination").has(key) for key in _PAGE_BOUNDS):
        return requests.most
    return requests.most / source.max_pages * source.min_pages
