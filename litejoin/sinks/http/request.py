"""What a webhook request carries besides its body: target, headers, signature.

Signatures follow Standard Webhooks (`litejoin.signatures`): `webhook-id`, `webhook-timestamp`
(Unix seconds of this attempt) and `webhook-signature`. Pure but for the clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, make_headers, parse_url

from litejoin import __version__
from litejoin.clock import Clock
from litejoin.errors import SinkError
from litejoin.plan.nodes import HttpSinkPlan
from litejoin.signatures import signature, signing_key


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and what every one of them carries."""

    url: Url
    path: str
    headers: Mapping[str, str]
    keys: tuple[bytes, ...]
    """Keys that sign, the newest first; none: requests are not signed."""

    def headers_for(self, delivery_id: str, body: bytes, clock: Clock) -> dict[str, str]:
        """All headers of one attempt."""
        headers = {**self.headers, "webhook-id": delivery_id, "Idempotency-Key": delivery_id}
        if self.keys:
            sent_s = str(clock.now_ms() // 1000)
            signed = signature(self.keys, delivery_id.encode(), sent_s.encode(), body)
            headers["webhook-timestamp"] = sent_s
            headers["webhook-signature"] = signed.decode()
        return headers


def target_of(plan: HttpSinkPlan) -> Target:
    """Raises SinkError for a URL, header or secret that can never be used."""
    url = _checked_url(plan)
    _check_headers(plan)
    authorization = {"Authorization": _basic(url.auth)} if url.auth else {}
    headers = {
        "User-Agent": f"litejoin/{__version__}",
        "Content-Type": "application/json",
        **authorization,
        **{name: str(value) for name, value in plan.headers.items()},
    }
    keys = tuple(_key(plan.name, secret) for secret in plan.secrets)
    return Target(url, _path(url, plan), headers, keys)


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
