"""A running pipeline whose sources are examples of `examples/apis/`, pointed at fake services.

The YAML is taken as it stands; only the origin and the interval (and what a test asks for) are
replaced, so that what is proved is what a user copies.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient
from tests.harness.process import REPOSITORY
from tests.harness.results import canonical
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually
from tests.services.service import Record, Service

EXAMPLES = REPOSITORY / "examples" / "apis"
INTERVAL = "250ms"


def example(name: str) -> Path:
    return EXAMPLES / f"{name}.yaml"


def source_of(service: Service, **api: Any) -> dict[str, Any]:
    """The source of the service's example; `api` replaces keys of its api block, None takes out."""
    text = example(service.name).read_text()
    assert service.origin in text, f"{service.name}: the example does not name {service.origin}"
    text = text.replace(service.origin, service.url)
    # A real page holds 100 records; ours holds few, so that every walk has several pages.
    text = re.sub(r"\blimit: 100\b", f"limit: {service.page_size}", text)
    source: dict[str, Any] = yaml.safe_load(text)["sources"][0]
    source["api"] |= {"interval": INTERVAL, "rate_limit": None, **api}
    source["api"] = {name: value for name, value in source["api"].items() if value is not None}
    return source


class Feeds:
    """One pipeline over some sources; every topic has a join of its own name that shows it all."""

    def __init__(
        self,
        launch: Launcher,
        sources: Sequence[Mapping[str, Any]],
        *,
        sections: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        start: bool = True,
    ) -> None:
        """`sources` and `sections` as the config has them."""
        self.at = Listener()
        joins = {
            source["topic"]: f"SELECT key, payload, op, changes FROM {source['topic']}"
            for source in sources
        }
        config = push_config(self.at, joins, **(sections or {}))
        config["sources"] = list(sources)
        self.pipeline = launch.prepare(config, health_url=self.at.health, env=env)
        if start:
            self.pipeline.start()

    def topic(self, name: str) -> dict[str, Record]:
        """A topic as it is now: key -> record."""
        found = snapshot(self.at.url, name).results
        return {result["key"]: json.loads(result["rows"][0]["payload"]) for result in found}

    def log(self) -> str:
        return self.pipeline.log()

    def lines(self, *words: str) -> list[str]:
        """The log lines that hold all of these words."""
        return [line for line in self.log().splitlines() if all(word in line for word in words)]

    def health(self) -> dict[str, Any]:
        with IngestClient(self.at.url) as client:
            body: dict[str, Any] = client.get("/health").body
        return body

    def source(self, name: str) -> dict[str, Any]:
        """What /health says of a source."""
        found: dict[str, Any] = self.health()["sources"][name]
        return found

    def wait_polls(self, name: str, more: int = 2) -> None:
        """Wait until `more` polls that begin from now on have ended."""
        goal = int(self.source(name)["polls"]) + more + 1  # the one at hand has begun already
        eventually(lambda: int(self.source(name)["polls"]) >= goal, 30)


class Rig(Feeds):
    """A pipeline over fake services, its sources the examples of `examples/apis/`."""

    def __init__(
        self,
        launch: Launcher,
        services: Sequence[Service],
        *,
        copies: int = 1,
        sections: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        **api: Any,
    ) -> None:
        """`copies`: so many sources of each service; the further ones feed topics of their own.

        `sections` of the config and `env` are added; `api` as of `source_of`, for every source.
        """
        self.services = list(services)
        self.topics: dict[str, str] = {}
        sources = []
        for service in services:
            for number in range(copies):
                source = source_of(service, **api)
                self.topics.setdefault(service.name, source["topic"])
                if number:
                    source["name"] += f"-{number}"
                    source["topic"] += f"_{number}"
                sources.append(source)
        secrets = {name: value for s in services for name, value in s.secrets.items()}
        super().__init__(launch, sources, sections=sections, env={**secrets, **(env or {})})

    # -- what the pipeline says --------------------------------------------------------------------

    def state(self, service: Service) -> dict[str, Record]:
        """The topic as it is now: key -> record."""
        return self.topic(self.topics[service.name])

    def same(self, service: Service) -> bool:
        """Whether the topic holds what the service holds."""
        return canonical(self.state(service)) == canonical(service.contents())

    def settle(self, *services: Service, timeout_s: float = 20.0) -> "Rig":
        """Wait until the topics equal their services (all of them by default)."""
        for service in services or self.services:
            eventually(lambda s=service: self.same(s) or self._why(s), timeout_s)
        return self

    def _why(self, service: Service) -> bool:
        raise AssertionError(
            f"{service.name}: topic {sorted(self.state(service))},"
            f" upstream {sorted(service.contents())}\n{self.log()[-3000:]}"
        )

    def failures(self, service: Service) -> int:
        """Failed polls of a service so far."""
        return len(self.lines(f"api-source {service.name}: poll failed"))
