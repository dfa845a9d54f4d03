"""What `poll` and `record` do: one poll of one api source, through a transport of their choice.

`Poller` is made from the options of either command. Reads the data directory, when there is one, to
tell changes from what is known; never writes there, also not while a pipeline runs in it.
"""

from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw

from litejoin.cli.config import Loaded, load, report
from litejoin.clock import SystemClock
from litejoin.config.text import suggestion
from litejoin.errors import ConfigError
from litejoin.plan.nodes import ApiSourcePlan, Plan
from litejoin.plan.nodes_api import OAuthPlan, SessionPlan
from litejoin.records import rfc3339
from litejoin.sources.api.probe import PollReport, probe
from litejoin.sources.api.source import network
from litejoin.sources.api.transport import Request, Response, Transport
from litejoin.sources.tape.fixture import FixtureWriter, read_fixture
from litejoin.sources.tape.redact import Redactor
from litejoin.sources.tape.transports import RecordingTransport, ReplayTransport
from litejoin.store.layout import Layout
from litejoin.store.manifest import load_manifest
from litejoin.store.source_state import ShardSourceState, StateReaders
from litejoin.store.sqlite import open_readonly


@dataclass(frozen=True, slots=True)
class Noted:
    """One request as it is shown: credentials are taken out of the URL."""

    method: str
    url: str
    status: int
    size: int
    took_ms: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a poll came to. `compared`: against stored records, not against nothing."""

    source: ApiSourcePlan
    report: PollReport
    requests: tuple[Noted, ...]
    compared: bool


class Poller:
    """One api source of a config, ready to be polled once."""

    def __init__(self, plan: Plan, source: ApiSourcePlan, redactor: Redactor) -> None:
        self.source = source
        self._plan = plan
        self._redactor = redactor

    @classmethod
    def from_options(cls, options: Namespace, fields: Iterable[str] = ()) -> "Poller | None":
        """The source that the options name; None after the config's errors were written to stderr.

        Raises ConfigError for a name that no api source has.
        """
        loaded = load(options)
        if loaded.plan is None:
            report(loaded)
            return None
        return cls.of(loaded, options.source, fields)

    @classmethod
    def of(cls, loaded: Loaded, name: str, fields: Iterable[str] = ()) -> "Poller":
        """The api source of this name of a config that has a plan. Raises ConfigError."""
        assert loaded.plan is not None
        source = _api_source(loaded.plan, name)
        named = [*fields, *_token_fields(source)]
        return cls(loaded.plan, source, Redactor(loaded.secrets, named))

    def network(self) -> Transport:
        """The real thing. Raises ConfigError when a poll would use up a refresh token."""
        auth = self.source.auth
        if isinstance(auth, OAuthPlan) and auth.refresh_token is not None:
            raise ConfigError(
                f"{self.source.name} has a refresh token: the API may replace it when it is used,"
                " and this command could not keep the new one",
                hint="poll with auth of another type, or --replay a recording",
            )
        return network(self.source)

    def replay(self, directory: Path) -> Transport:
        """The answers of a recording. Raises ConfigError when it is none."""
        return ReplayTransport(read_fixture(directory), self._redactor)

    def recording(self, directory: Path) -> tuple[Transport, FixtureWriter]:
        """The real thing, its answers kept in a new directory."""
        inner = self.network()
        now = rfc3339(SystemClock().now_ms())
        writer = FixtureWriter(directory, self.source.name, now)
        return RecordingTransport(inner, writer, self._redactor), writer

    def poll(self, transport: Transport, pages: int | None) -> Found:
        """One poll. Blocks until it is over."""
        noting = _Noting(transport, self._redactor)
        with _stored_state(self._plan, self.source) as state:
            found = probe(self.source, pages, noting, state)
        return Found(self.source, found, tuple(noting.requests), state is not None)


def _api_source(plan: Plan, name: str) -> ApiSourcePlan:
    sources = {s.name: s for s in plan.sources if isinstance(s, ApiSourcePlan)}
    if name in sources:
        return sources[name]
    near = suggestion(name, sources)
    there = ", ".join(sources) or "none"
    hint = f'did you mean "{near}"?' if near else f"the api sources of this config: {there}"
    raise ConfigError(f"no api source {name!r} in {plan.file}", hint=hint)


def _token_fields(source: ApiSourcePlan) -> list[str]:
    """The fields that hold tokens in this API's own answers."""
    if isinstance(source.auth, SessionPlan):
        return [source.auth.token_path.rpartition(".")[2]]
    return []


@contextmanager
def _stored_state(plan: Plan, source: ApiSourcePlan) -> Iterator[ShardSourceState | None]:
    """What is stored of the source, for reading only; None when nothing is."""
    layout = Layout(plan.storage.data_dir)
    if not layout.manifest.exists():
        yield None
        return
    manifest = load_manifest(layout, plan.storage.shard_count)
    entry = manifest.sources.get(manifest.source_key(source.name, source.topic))
    if entry is None:
        yield None
        return
    connections: list[apsw.Connection] = []

    def open_readers() -> list[apsw.Connection]:
        for number in range(manifest.shard_count):
            connections.append(open_readonly(layout.shard(number)))
        return connections

    def refuse(_: object) -> None:
        raise AssertionError("this command stores nothing")

    try:
        readers = StateReaders(open_readers)
        yield ShardSourceState(entry, readers, refuse, lambda: manifest.topics)
    finally:
        for connection in connections:
            connection.close()


class _Noting:
    """A transport that remembers what was asked, for people to read."""

    def __init__(self, inner: Transport, redactor: Redactor) -> None:
        self._inner = inner
        self._redactor = redactor
        self._clock = SystemClock()
        self.requests: list[Noted] = []

    def send(self, request: Request) -> Response:
        began_ms = self._clock.monotonic_ms()
        url = self._redactor.url(request.url)
        try:
            answer = self._inner.send(request)
        except Exception:
            self.requests.append(Noted(request.method, url, 0, 0, self._since(began_ms)))
            raise
        size = len(answer.body)
        self.requests.append(Noted(request.method, url, answer.status, size, self._since(began_ms)))
        return answer

    def expire(self) -> None:
        self._inner.expire()

    def close(self) -> None:
        self._inner.close()

    def _since(self, began_ms: int) -> int:
        return self._clock.monotonic_ms() - began_ms
