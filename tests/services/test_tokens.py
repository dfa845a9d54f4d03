"""Tokens: renewed before they end, also after a wait; a rotated one survives kill -9."""

import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.harness.configs import Listener, poll_config
from tests.harness.fixtures import Launcher
from tests.harness.scripted import Reply, Request, ScriptedServer, json_reply
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually
from tests.services.rig import Rig
from tests.services.shapes import Salesforce


def test_a_token_that_ends_during_a_wait_is_renewed_before_the_next_attempt(
    launch: Launcher,
) -> None:
    """The token lives 2 s; page 2 asks for 3 s of patience. No request goes out with a dead one."""
    with Salesforce() as service:
        service.expires_in = 2
        rig = Rig(launch, [service], retry={"max_attempts": 3}).settle()
        service.on_page(2, Reply(429, headers={"Retry-After": "3"}))
        eventually(lambda: not service._on_page[2])
        service.wait_complete(1)
        rig.settle()
        born: dict[str, float] = {}
        for request in service.seen():
            token = request.headers.get("authorization", "")
            if not token.startswith("Bearer "):
                continue
            born.setdefault(token, request.at)
            assert request.at - born[token] < 2.5, f"{token} used after its end"
        assert rig.failures(service) == 0
        assert len(born) > 1


class Rotating(ScriptedServer):
    """A token endpoint whose refresh tokens are good once, and a list behind its access tokens.

    A refresh token that is presented a second time ends the grant, as the OAuth drafts advise.
    """

    def __init__(self, life_s: float = 1.0) -> None:
        self.life_s = life_s
        self.serial = 0
        self.access: dict[str, float] = {}
        self.reused: list[str] = []
        self.used: list[str] = []
        """Access tokens that a data request brought, in order."""
        super().__init__(self._serve)

    def _serve(self, request: Request) -> Reply:
        if urlsplit(request.path).path == "/token":
            return self._renew(request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.access.get(token, 0) < time.monotonic():
            return json_reply({"error": "expired"}, 401)
        if token not in self.used:
            self.used.append(token)
        return json_reply([{"id": n} for n in range(5)])

    def _renew(self, request: Request) -> Reply:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form.get("refresh_token") != f"refresh-{self.serial}":
            self.reused.append(str(form.get("refresh_token")))
            return json_reply({"error": "invalid_grant"}, 400)
        self.serial += 1
        access = f"access-{self.serial}"
        self.access[access] = time.monotonic() + self.life_s
        body: dict[str, Any] = {
            "access_token": access, "refresh_token": f"refresh-{self.serial}",
            "expires_in": self.life_s, "token_type": "bearer",
        }  # fmt: skip
        return json_reply(body)


def test_a_rotated_refresh_token_survives_kill_9(launch: Launcher) -> None:
    """Killed as soon as a new token is seen in use: by then its refresh token must be stored."""
    at = Listener()
    with Rotating() as server:
        auth = {
            "type": "oauth2_refresh_token", "token_url": f"{server.url}/token", "client_id": "c",
            "client_secret": "client-secret", "refresh_token": "refresh-0", "auth_style": "body",
        }  # fmt: skip
        api = {"url": f"{server.url}/list", "interval": "100ms", "key_path": "id", "auth": auth}
        config = poll_config(at, api, {"rows": "SELECT key FROM items"})
        pipeline = launch(config, at.health)
        for _ in range(3):
            count = len(server.used)
            eventually(lambda n=count: len(server.used) > n, 20, every_s=0.002)
            pipeline.restart()
        count = len(server.used)
        eventually(lambda: len(server.used) > count, 20)
        eventually(lambda: len(snapshot(at.url, "rows").results) == 5)
        assert server.reused == []
        shown = pipeline.output() + json.dumps([r.path for r in server.seen()])
        assert "refresh-" not in shown and "access-" not in shown and "client-secret" not in shown


def test_a_refused_login_is_told_and_not_hammered(launch: Launcher) -> None:
    with Salesforce() as service:
        rig = Rig(launch, [service]).settle()
        service.route = lambda request: (  # type: ignore[method-assign]
            json_reply({"error": "invalid_client"}, 401) if "token" in request.path else None
        )
        service.expire()
        eventually(lambda: rig.lines("salesforce-accounts", "auth failed"), 20)
        assert "auth failed" in str(rig.health())
        assert service.secrets["SALESFORCE_CLIENT_SECRET"] not in rig.pipeline.output()
        tokens = [r for r in service.seen() if "token" in r.path]
        polls = rig.failures(service)
        assert len(tokens) <= 1 + 2 * (polls + 1)
        del service.route  # type: ignore[method-assign]
        service.wait_complete(1, timeout_s=60)
        rig.settle()
