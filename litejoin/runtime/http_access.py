"""Who may send what to a listener: bearer tokens, browsers' origins, host names on loopback.

Asked by the router before a handler runs. Knows no paths. Tokens are compared in constant time and
never appear in a message.
"""

import hmac
from urllib.parse import parse_qs, urlsplit

from litejoin.errors import RequestError
from litejoin.plan.nodes import Token

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
REMEMBERED_HOSTS = 256
"""Accepted Host values kept, so that a busy client's is not parsed again."""


class Access:
    """The rules of all listeners of one pipeline."""

    def __init__(self, tokens: tuple[Token, ...], cors_origins: tuple[str, ...]) -> None:
        self._tokens = [(token.value.encode(), token.scopes) for token in tokens]
        self._any_origin = "*" in cors_origins
        self._origins = frozenset(origin.rstrip("/").lower().encode() for origin in cors_origins)
        self._origin_hosts = {urlsplit(origin).hostname for origin in cors_origins}
        self._good_hosts: set[bytes] = set()

    @property
    def open(self) -> bool:
        """No tokens are configured: everyone may do everything."""
        return not self._tokens

    def scopes(self, credentials: bytes | None) -> frozenset[str] | None:
        """What a token opens; None when there is none or it is unknown."""
        found = None
        for token, scopes in self._tokens:
            if credentials is not None and hmac.compare_digest(token, credentials):
                found = scopes if found is None else found | scopes
        return found

    def check_scope(self, scope: str, credentials: bytes | None) -> None:
        """Raises RequestError: 401 without a known token, 403 when it does not open `scope`."""
        if self.open:
            return
        scopes = self.scopes(credentials)
        if scopes is None:
            problem = "a bearer token is needed" if credentials is None else "unknown bearer token"
            challenge = ((b"www-authenticate", b'Bearer realm="litejoin"'),)
            raise RequestError(problem, status=401, headers=challenge)
        if scope not in scopes:
            raise RequestError(f'the token does not have the scope "{scope}"', status=403)

    def check_host(self, host: bytes | None) -> None:
        """Raises RequestError when a request to a loopback listener names another host.

        A web page whose name was rebound to 127.0.0.1 reaches the listener, but names its own host.
        """
        if host is None or host in self._good_hosts:
            return
        name = host_name(host)
        if name in LOOPBACK_NAMES or name.endswith(".localhost") or name in self._origin_hosts:
            if len(self._good_hosts) < REMEMBERED_HOSTS:
                self._good_hosts.add(host)
            return
        raise RequestError(
            "this listener is bound to loopback and does not serve that Host",
            status=403,
            hint="use localhost, or add the name's origin to server.cors_origins",
        )

    def allowed_origin(self, origin: bytes, host: bytes | None) -> bool:
        """Whether a page of `origin` may read answers and send changes: of this host, or listed.

        The scheme is not compared: a proxy in front may speak TLS.
        """
        if self._any_origin or origin.lower() in self._origins:
            return True
        return host is not None and origin.lower().partition(b"://")[2] == host.lower()


def host_name(host: bytes) -> str:
    """The name of a Host header without its port, lower case; "" when it is malformed."""
    try:
        return urlsplit(b"//" + host).hostname.decode().lower()  # type: ignore[union-attr]
    except (ValueError, AttributeError):
        return ""


def bearer(authorization: bytes | None) -> bytes | None:
    """The token of an Authorization header."""
    if authorization is None:
        return None
    kind, _, token = authorization.partition(b" ")
    return token.strip() if kind.lower() == b"bearer" and token.strip() else None


def query_token(query: bytes) -> bytes | None:
    """The token in `access_token`, for EventSource, which cannot set headers."""
    found = parse_qs(query, max_num_fields=100).get(b"access_token")
    return found[0] if found else None
