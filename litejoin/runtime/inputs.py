"""Sources of a plan as running objects, and the endpoint that http sources share.

Called by `app`. A new kind of source is added here and in its own module, nowhere else.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from litejoin.clock import Clock
from litejoin.plan.nodes import ApiSourcePlan, HttpSourcePlan, KafkaSourcePlan, Plan
from litejoin.runtime.asgi import AccessScope
from litejoin.runtime.channel import Channel
from litejoin.runtime.server import Listeners
from litejoin.sources.api import ApiSource
from litejoin.sources.api.budget import Budgets
from litejoin.sources.api.transport import Transport
from litejoin.sources.base import Source
from litejoin.sources.http import HttpSource, by_address
from litejoin.sources.http_marks import StoredAnswers
from litejoin.sources.http_webhook import WebhookSource
from litejoin.sources.kafka.source import KafkaSource
from litejoin.store.writer import ShardStore

MAX_POLL_THREADS = 256
"""Polls that can wait for the network at once; a source never has more than one. A thread is made
when no other is free, so that quick APIs share a few and one that hangs holds up only itself.
"""


class Inputs:
    """Adds the paths of http sources to the listeners when made; makes the other sources in `open`.
    Event loop only.

    `transports` replaces the network for api sources, by name.
    """

    def __init__(
        self,
        plan: Plan,
        channel: Channel,
        store: ShardStore,
        listeners: Listeners,
        clock: Clock,
        transports: Mapping[str, Transport],
    ) -> None:
        self._plan, self._channel, self._store, self._clock = plan, channel, store, clock
        self._transports = transports
        self._polls: ThreadPoolExecutor | None = None
        self.sources: list[Source] = []
        pushes = [s for s in plan.sources if isinstance(s, HttpSourcePlan)]
        for here in by_address([s for s in pushes if s.webhook is None]):
            answers = self._answers(here)
            source = HttpSource(here, channel, plan.server.limits, clock, answers)
            listeners.add(here[0].addr, "POST", "/ingest", source.ingest, "ingest")
            self.sources.append(source)
        self.sources += [self._webhook(s, listeners) for s in pushes if s.webhook is not None]

    def open(self) -> None:
        """Make the sources that fetch: the storage is ready. Raises ConfigError, StorageError."""
        apis = [s for s in self._plan.sources if isinstance(s, ApiSourcePlan)]
        threads = max(1, min(MAX_POLL_THREADS, len(apis)))
        self._polls = ThreadPoolExecutor(threads, thread_name_prefix="litejoin-poll")
        budgets = Budgets()
        self.sources += [self._api(plan, self._polls, budgets) for plan in apis]
        self.sources += [
            self._kafka(s) for s in self._plan.sources if isinstance(s, KafkaSourcePlan)
        ]

    def close(self) -> None:
        """Start no more polls; one that hangs in the network is not waited for."""
        if self._polls is not None:
            self._polls.shutdown(wait=False, cancel_futures=True)

    def _webhook(self, plan: HttpSourcePlan, listeners: Listeners) -> WebhookSource:
        limits = self._plan.server.limits
        source = WebhookSource(plan, self._channel, limits, self._clock, self._answers([plan]))
        scope: AccessScope | None = None if source.signed else "ingest"
        for path in source.paths:
            listeners.add(plan.addr, "POST", path, source.ingest, scope)
        return source

    def _answers(self, plans: Sequence[HttpSourcePlan]) -> StoredAnswers:
        name = min(plan.name for plan in plans)  # whatever their order in the config
        return StoredAnswers(
            lambda: self._store.source_state(name), self._store.shard_count, self._clock
        )

    def _api(self, plan: ApiSourcePlan, polls: ThreadPoolExecutor, budgets: Budgets) -> ApiSource:
        return ApiSource(
            plan,
            self._channel,
            self._store.source_state(plan.name, plan.topic),
            self._clock,
            polls,
            tokens=self._store.source_state(plan.name),
            transport=self._transports.get(plan.name),
            budgets=budgets,
        )

    def _kafka(self, plan: KafkaSourcePlan) -> KafkaSource:
        store, limits = self._store, self._plan.server.limits
        state = store.source_state(plan.name)
        return KafkaSource(plan, self._channel, state, store.shard_count, limits, self._clock)
