"""How many requests polls send: per source, and per budget that sources share.

Called by explain. Requests per minute = pages per poll / interval. Sources with one
`rate_limit.group`, else those of one host, share one budget: their requests add up, and the
strictest of their limits holds for all of them.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from litejoin.frozen import dataclass
from litejoin.plan.nodes import ApiSourcePlan, SourcePlan

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests per minute of one api source; `least` and `most` differ if pages are not known."""

    least: float
    most: float
    allowed: float | None
    per_record_of: str | None
    """With `for_each`: the figures are for each record of this topic."""

    @property
    def share(self) -> float | None:
        """Least requests as a share of the allowed; above 1 the interval cannot be kept."""
        return self.least / self.allowed if self.allowed else None


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget of requests and those who draw on it."""

    name: str
    """The group, or the host."""
    sources: tuple[str, ...]
    least: float
    most: float | None
    """None: no bound is known, since a source asks once for each record of a topic."""
    allowed: float | None
    per_record_of: tuple[str, ...]
    """Topics whose records multiply the requests of a source; one record each is counted."""

    @property
    def share(self) -> float | None:
        """Least requests as a share of the allowed."""
        return self.least / self.allowed if self.allowed else None


def requests_of(source: ApiSourcePlan) -> Requests:
    """What one source asks for."""
    polls = MINUTE_MS / source.interval_ms
    fastest = MINUTE_MS / (source.fastest_interval_ms or source.interval_ms)
    return Requests(
        source.min_pages * polls,
        source.max_pages * max(polls, fastest),
        source.allowed_per_minute,
        source.parent_topic,
    )


def budget_name(source: ApiSourcePlan) -> str:
    """The budget a source draws on: its group, else the host of its URL as the config shows it."""
    return source.rate_group or _host(source.shown_url) or _host(source.url)


def budgets(sources: Iterable[SourcePlan]) -> tuple[Budget, ...]:
    """Every budget, in the order in which sources first draw on it."""
    shared: dict[str, list[ApiSourcePlan]] = {}
    for source in sources:
        if isinstance(source, ApiSourcePlan):
            shared.setdefault(budget_name(source), []).append(source)
    return tuple(_budget(name, members) for name, members in shared.items())


def _budget(name: str, members: list[ApiSourcePlan]) -> Budget:
    asked = [requests_of(source) for source in members]
    limits = [each.allowed for each in asked if each.allowed is not None]
    parents = dict.fromkeys(each.per_record_of for each in asked if each.per_record_of)
    return Budget(
        name=name,
        sources=tuple(source.name for source in members),
        least=sum(each.least for each in asked),
        most=None if parents else sum(each.most for each in asked),
        allowed=min(limits, default=None),
        per_record_of=tuple(parents),
    )


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
