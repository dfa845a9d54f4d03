"""The HTTP listeners of a pipeline: one per distinct address, with shared limits and access rules.

The runtime adds handlers, starts the listeners when the store is open and stops them before it
closes. Everything runs on the event loop that `start` is called on; signals are not touched. Not
uvicorn, which lacks most of the limits and takes half as long again for a request: see
docs/explanation/http.md.
"""

import asyncio
import logging
import socket
import ssl
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from litejoin.clock import Clock, SystemClock
from litejoin.plan.nodes import Address, ServerPlan
from litejoin.runtime.asgi import AccessScope, Health, Router
from litejoin.runtime.http_access import Access
from litejoin.runtime.http_answers import App
from litejoin.runtime.http_budget import BodyBudget
from litejoin.runtime.http_connection import Connection, ConnectionRules
from litejoin.runtime.open_files import allow_files
from litejoin.runtime.sockets import bind, tls_context
from litejoin.runtime.tls_accept import TlsAcceptor

log = logging.getLogger("litejoin.http")

LONGEST_TICK_S = 1.0
"""Deadlines are checked this often; a shorter timeout is checked four times in its span."""

WILDCARDS = frozenset({"", "0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a listener ended up: `actual` differs from `wanted` for port 0 and a taken default."""

    wanted: Address
    actual: Address
    url: str
    paths: tuple[str, ...]


@dataclass(slots=True)
class Listener:
    """One address: its router, and once started its sockets and connections."""

    address: Address
    router: Router
    sockets: list[socket.socket] = field(default_factory=list)
    servers: list[asyncio.Server | TlsAcceptor] = field(default_factory=list)
    rules: ConnectionRules | None = None


class Listeners:
    """All listeners. `health` is called for every GET /health and must not block.

    The address of the plan's server (the admin listener) is always among them.
    """

    def __init__(
        self,
        server: ServerPlan,
        health: Health,
        clock: Clock | None = None,
        *,
        other_files: int = 256,
    ) -> None:
        """`other_files`: what the process may have to open beside the connections."""
        self._plan = server
        self._other_files = other_files
        self._max_connections = server.limits.max_connections
        self._health = health
        self._clock = clock or SystemClock()
        self._access = Access(server.tokens, server.cors_origins)
        self._bodies = BodyBudget(server.limits.max_body_bytes)
        self._listeners: list[Listener] = []
        self._ticker: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._bounds: list[Bound] = []
        self._everywhere: list[tuple[str, str, App, AccessScope | None]] = []
        self._added: list[tuple[Address, str, str, App, AccessScope | None, bool]] = []

    def add(
        self,
        address: Address,
        method: str,
        path: str,
        handler: App,
        scope: AccessScope | None,
        *,
        query_token: bool = False,
    ) -> None:
        """Answer `method path` on `address` with an ASGI callable, before `start`.

        `scope`: what a bearer token must open; None: nothing is asked. `query_token`: the token
        may be the query parameter `access_token` (for EventSource). HEAD is answered as GET.
        """
        self._added.append((address, method, path, handler, scope, query_token))

    def add_everywhere(
        self, method: str, path: str, handler: App, scope: AccessScope | None
    ) -> None:
        """Answer `method path` on every listener, before `start`."""
        self._everywhere.append((method, path, handler, scope))

    def figures(self) -> dict[str, dict[str, int]]:
        """For /metrics: open connections by address."""
        return {
            str(bound.actual): {"connections": len(rules.connections)}
            for bound, rules in zip(self._bounds, self._all_rules(), strict=False)
        }

    def _route(self) -> list[Listener]:
        """One listener per distinct address; one for all interfaces serves its port's others too.

        Raises ValueError when a method and path of one address have two handlers.
        """
        wanted = [self._plan.addr, *(entry[0] for entry in self._added)]
        wildcard_ports = {a.port for a in wanted if a.host in WILDCARDS and a.port}
        found: dict[tuple[str, int], Listener] = {}

        def listener(address: Address) -> Listener:
            everywhere = address.host in WILDCARDS or address.port in wildcard_ports
            place = ("" if everywhere else address.host, address.port)
            known = found.get(place)
            if known is None:
                loopback = not everywhere and not address.is_public
                router = Router(self._access, self._health, loopback=loopback)
                known = found[place] = Listener(Address(*place, address.explicit), router)
            elif address.explicit and not known.address.explicit:
                known.address = Address(*place, explicit=True)
            return known

        listener(self._plan.addr)
        for address, method, path, handler, scope, query_token in self._added:
            router = listener(address).router
            router.add(method, path, handler, scope, query_token=query_token)
        for each in found.values():
            for everywhere_route in self._everywhere:
                each.router.add(*everywhere_route)
        return list(found.values())

    async def start(self) -> list[Bound]:
        """Bind every address, then serve. Raises StartRefusedError; then nothing is left open."""
        tls = self._tls()
        self._listeners = self._route()
        self._bound_connections(len(self._listeners))
        try:
            for listener in self._listeners:
                listener.sockets = bind(listener.address)
            for listener in self._listeners:
                await self._serve(listener, tls)
        except BaseException:
            await self.stop(0.0)
            raise
        self._ticker = asyncio.get_running_loop().create_task(self._tick())
        bounds = [self._bound(listener, tls is not None) for listener in self._listeners]
        self._bounds = bounds
        self._announce(bounds)
        return bounds

    def _bound_connections(self, listeners: int) -> None:
        """No more connections than leave files for everything else."""
        wanted = self._plan.limits.max_connections
        may = allow_files(self._other_files + listeners * wanted)
        self._max_connections = min(wanted, max(1, (may - self._other_files) // listeners))
        if self._max_connections < wanted:
            log.warning(
                "http: the process may open %d files (ulimit -n): a listener takes %d connections,"
                " not %d",
                may,
                self._max_connections,
                wanted,
            )

    def _tls(self) -> ssl.SSLContext | None:
        if self._plan.tls_cert_file is None:
            return None
        return tls_context(self._plan.tls_cert_file, self._plan.tls_key_file)

    async def _serve(self, listener: Listener, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        limits = self._plan.limits
        rules = ConnectionRules(
            app=listener.router,
            max_body_bytes=limits.max_body_bytes,
            max_connections=self._max_connections,
            header_timeout_s=limits.header_timeout_ms / 1000,
            idle_timeout_s=limits.idle_timeout_ms / 1000,
            bodies=self._bodies,
            scheme="http" if tls is None else "https",
            date_line=self._date_line(),
            on_empty=self._empty.set,
        )
        listener.rules = rules
        for sock in listener.sockets:
            listener.servers.append(
                await loop.create_server(lambda: Connection(rules, loop), sock=sock)
                if tls is None
                else TlsAcceptor(sock, tls, rules)
            )

    def _bound(self, listener: Listener, tls: bool) -> Bound:
        address = listener.address
        port = listener.sockets[0].getsockname()[1]
        actual = Address(address.host, port, address.explicit)
        shown = Address("127.0.0.1" if address.host in WILDCARDS else address.host, port)
        url = f"{'https' if tls else 'http'}://{shown}"
        return Bound(address, actual, url, listener.router.paths())

    def _announce(self, bounds: list[Bound]) -> None:
        for bound in bounds:
            where = " (all interfaces)" if bound.actual.host in WILDCARDS else ""
            paths = " ".join(bound.paths)
            log.info("http: listening on %s%s (%s)", bound.url, where, paths)
        public = [str(bound.actual) for bound in bounds if bound.actual.is_public]
        if public and self._access.open:
            log.warning(
                "http: other machines reach %s without a token (server.auth sets one)",
                ", ".join(public),
            )

    def _date_line(self) -> bytes:
        return f"date: {formatdate(self._clock.now_ms() / 1000, usegmt=True)}\r\n".encode()

    async def _tick(self) -> None:
        """Renew the date and check every connection's deadlines."""
        loop = asyncio.get_running_loop()
        limits = self._plan.limits
        shortest_s = min(limits.header_timeout_ms, limits.idle_timeout_ms) / 1000
        while True:
            await asyncio.sleep(min(LONGEST_TICK_S, shortest_s / 4))
            date_line, now = self._date_line(), loop.time()
            for rules in self._all_rules():
                rules.date_line = date_line
                for connection in tuple(rules.connections):
                    connection.check_deadlines(now)

    def _all_rules(self) -> list[ConnectionRules]:
        return [listener.rules for listener in self._listeners if listener.rules is not None]

    async def stop(self, deadline_s: float) -> None:
        """Accept no more, let running requests end within `deadline_s` seconds, then cut them.

        Streams (SSE) must be ended by their handlers, or they are cut. Safe to call twice.
        """
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        for listener in self._listeners:
            for server in listener.servers:
                server.close()
            for sock in listener.sockets:
                sock.close()
        for rules in self._all_rules():
            rules.draining = True
            for connection in tuple(rules.connections):
                connection.finish()
        if deadline_s > 0:
            await self._wait_until_empty(deadline_s)
        await self._cut()

    async def _wait_until_empty(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                while any(rules.connections for rules in self._all_rules()):
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            left = sum(len(rules.connections) for rules in self._all_rules())
            log.warning("http: %d connections were cut after %.1f s", left, deadline_s)

    async def _cut(self) -> None:
        tasks: list[asyncio.Task[Any]] = [
            task
            for rules in self._all_rules()
            for connection in tuple(rules.connections)
            if (task := connection.cut()) is not None
        ]
        tasks += [task for rules in self._all_rules() for task in rules.handshakes]
        await asyncio.gather(*tasks, return_exceptions=True)
