"""What a webhook request is: target, headers, signature, body.

Signatures follow Standard Webhooks (`litejoin.signatures`): `webhook-id`, `webhook-timestamp`
(Unix seconds of this attempt) and `webhook-signature`. Pure but for the clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, make_headers, parse_url

from litejoin import __version__
from litejoin.clock import Clock
from litejoin.errors import SinkError
from litejoin.plan.nodes import HttpSinkPlan
from litejoin.signatures import signature, signing_key

OURS = frozenset(
    ("content-length", "transfer-encoding", "webhook-id", "idempotency-key", "webhook-timestamp",
     "webhook-signature")
)  # fmt: skip
"""Headers that every request has of its own: one of the config with such a name is not sent."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and what every one of them carries."""

    url: Url
    path: str
    head: bytes
    """The request line, and the headers that are the same for all."""
    keys: tuple[bytes, ...]
    """Keys that sign, the newest first; none: requests are not signed."""

    def request(self, delivery_id: str, body: bytes, clock: Clock) -> bytes:
        """One attempt, as it goes over the connection: in one piece, so in one packet."""
        id_ = delivery_id.encode()
        return b"%bwebhook-id: %b\r\nIdempotency-Key: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
            self.head, id_, id_, len(body), self._signed(id_, body, clock), body,
        )  # fmt: skip

    def _signed(self, id_: bytes, body: bytes, clock: Clock) -> bytes:
        if not self.keys:
            return b""
        sent_s = b"%d" % (clock.now_ms() // 1000)
        signed = signature(self.keys, id_, sent_s, body)
        return b"webhook-timestamp: %b\r\nwebhook-signature: %b\r\n" % (sent_s, signed)


def target_of(plan: HttpSinkPlan) -> Target:
    """Raises SinkError for a URL, header or secret that can never be used."""
    url = _checked_url(plan)
    _check_headers(plan)
    keys = tuple(_key(plan.name, secret) for secret in plan.secrets)
    path = _path(url, plan)
    lines = [f"{plan.method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in _headers(url, plan))]
    return Target(url, path, "".join(f"{line}\r\n" for line in lines).encode("latin-1"), keys)


def _headers(url: Url, plan: HttpSinkPlan) -> Iterator[tuple[str, str]]:
    """What the config says counts before what is usual, and nothing is said twice."""
    chosen = {name.lower() for name in plan.headers}
    usual = {
        "Host": _host(url),
        "User-Agent": f"litejoin/{__version__}",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        **({"Authorization": _basic(url.auth)} if url.auth else {}),
    }
    yield from ((name, value) for name, value in usual.items() if name.lower() not in chosen)
    for name, value in plan.headers.items():
        if name.lower() not in OURS:
            yield name, str(value)


def _host(url: Url) -> str:
    # The dot of a full name is for the resolver, the zone of an address for the local network.
    host = (url.host or "").rstrip(".")
    if host.startswith("[") and "%" in host:
        host = f"{host.partition('%')[0]}]"
    usual_port = 443 if url.scheme == "https" else 80
    return host if url.port in (None, usual_port) else f"{host}:{url.port}"


def _path(url: Url, plan: HttpSinkPlan) -> str:
    more = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in plan.query.items())
    if not more:
        return url.request_uri
    return f"{url.request_uri}{'&' if url.query else '?'}{more}"


def _key(sink: str, secret: str) -> bytes:
    try:
        return signing_key(secret)
    except ValueError as error:
        raise SinkError(
            f"sink {sink}: {error}", hint="copy the secret anew, or write it without the prefix"
        ) from None


def _checked_url(plan: HttpSinkPlan) -> Url:
    try:
        url = parse_url(plan.url)
    except LocationParseError:
        url = Url()
    if url.scheme not in ("http", "https") or not url.host:
        raise SinkError(
            f"sink {plan.name}: the url is not an http(s) URL with a host",
            hint="write it as https://host/path",
        )
    return url


def _check_headers(plan: HttpSinkPlan) -> None:
    for name, value in plan.headers.items():
        if not name.isascii() or any(c in "\r\n\0" or ord(c) > 255 for c in name + value):
            raise SinkError(f"sink {plan.name}: header {name!r} cannot be sent: control characters")


def _basic(user_and_password: str) -> str:
    return make_headers(basic_auth=user_and_password)["authorization"]
