"""Credentials: what an authorized request carries, and tokens that must be fetched first.

Asked by `exchange` right before each attempt, so a token that ran out during a wait is renewed.
Tokens live in memory; only a rotated refresh token is kept (`notes`), before its access token is
used. Nothing here logs, and no error tells a secret.
"""

import base64
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlencode

from litejoin.clock import Clock
from litejoin.errors import PollError
from litejoin.plan.nodes_api import AuthPlan, JwtPlan, OAuthPlan, SessionPlan, TokenAuth
from litejoin.sources.api.document import Document
from litejoin.sources.api.jwt import sign
from litejoin.sources.api.notes import Notes, fingerprint
from litejoin.sources.api.request import Draft, header_value
from litejoin.sources.api.transport import Request, Response
from litejoin.sources.api.words import printable, status_text

Send = Callable[[Request], Awaitable[Response]]
NOTE = "token"
EARLY_MS = 30_000
"""A token is renewed this long before it ends, or a tenth of its life if that is less."""
DEFAULT_LIFE_MS = 3_600_000
"""Of a token whose answer does not say; a 401 renews it earlier."""
JWT_LIFE_S = 300
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""RFC 7523."""
FORM_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip",
                "Content-Type": "application/x-www-form-urlencoded"}  # fmt: skip


class Auth(Protocol):
    """How requests of one source are authorized."""

    async def apply(self, draft: Draft) -> Draft:
        """The draft with valid credentials. Raises PollError when there are none to get."""
        ...

    def renew(self) -> bool:
        """After a 401: True when another attempt would carry a new token."""
        ...


class NoAuth:
    """Nothing, or what the config's own headers say."""

    async def apply(self, draft: Draft) -> Draft:
        return draft

    def renew(self) -> bool:
        return False


class StaticAuth:
    """bearer, basic, api_key."""

    def __init__(self, plan: TokenAuth) -> None:
        self._plan = plan

    async def apply(self, draft: Draft) -> Draft:
        plan = self._plan
        if plan.kind == "bearer":
            return with_header(draft, "Authorization", f"Bearer {plan.value}")
        if plan.kind == "basic":
            return with_header(draft, "Authorization", basic(plan.name, plan.value))
        if plan.place == "header":
            return with_header(draft, plan.name, str(plan.value))
        if plan.place == "query":
            return draft.with_value("query", plan.name, str(plan.value))
        cookies = draft.headers.get("Cookie")
        own = f"{plan.name}={plan.value}"
        return with_header(draft, "Cookie", f"{cookies}; {own}" if cookies else own)

    def renew(self) -> bool:
        return False


class TokenSource:
    """A token with a life. Subclasses fetch one; this keeps it and knows when it is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._token = ""
        self._renew_at_ms = 0

    async def apply(self, draft: Draft) -> Draft:
        if not self._token or self._clock.monotonic_ms() >= self._renew_at_ms:
            token, life_ms = await self._fetch()
            self._token = token
            early_ms = min(EARLY_MS, life_ms // 10)
            self._renew_at_ms = self._clock.monotonic_ms() + max(life_ms - early_ms, 0)
        return self._with_token(draft, self._token)

    def renew(self) -> bool:
        had, self._token = bool(self._token), ""
        return had

    async def _fetch(self) -> tuple[str, int]:
        """(token, life in milliseconds)."""
        raise NotImplementedError

    def _with_token(self, draft: Draft, token: str) -> Draft:
        return with_header(draft, "Authorization", f"Bearer {token}")


class OAuth(TokenSource):
    """oauth2_client_credentials and oauth2_refresh_token."""

    def __init__(self, plan: OAuthPlan, send: Send, notes: Notes, clock: Clock) -> None:
        super().__init__(clock)
        self._plan, self._send, self._notes = plan, send, notes
        self._fingerprint = fingerprint(plan.token_url, plan.client_id, plan.refresh_token)

    async def _fetch(self) -> tuple[str, int]:
        plan = self._plan
        refresh = await self._refresh_token()
        form = {"grant_type": "refresh_token" if refresh else "client_credentials"}
        form |= {str(k): str(v) for k, v in plan.params.items()}
        if refresh:
            form["refresh_token"] = refresh
        if plan.scopes:
            form["scope"] = " ".join(plan.scopes)
        headers = dict(FORM_HEADERS)
        if plan.auth_style == "header" and plan.client_secret:
            headers["Authorization"] = basic(plan.client_id, plan.client_secret)
        else:
            form["client_id"] = plan.client_id
            if plan.client_secret:
                form["client_secret"] = str(plan.client_secret)
        body = urlencode(form).encode()
        answer = await self._send(Request("POST", plan.token_url, headers, body))
        document = _token_document(answer, "the token endpoint")
        rotated = document.token("refresh_token")
        if refresh and rotated is not None and str(rotated) != refresh:
            # The old one may be void already: on disk first, in use after.
            await self._notes.put(NOTE, self._fingerprint, {"refresh_token": str(rotated)})
        return _token_of(document, "access_token"), _life_ms(document, "expires_in")

    async def _refresh_token(self) -> str:
        if self._plan.refresh_token is None:
            return ""
        note = await self._notes.get(NOTE, self._fingerprint)
        return str(note.get("refresh_token") or str(self._plan.refresh_token))


class Session(TokenSource):
    """A login whose answer holds the token."""

    def __init__(self, plan: SessionPlan, send: Send, clock: Clock) -> None:
        super().__init__(clock)
        self._plan, self._send = plan, send

    async def _fetch(self) -> tuple[str, int]:
        plan = self._plan
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        if plan.body is not None:
            is_json = plan.body.lstrip()[:1] in ("{", "[")
            form = "application/x-www-form-urlencoded"
            headers["Content-Type"] = "application/json" if is_json else form
        body = None if plan.body is None else plan.body.encode()
        answer = await self._send(Request(plan.method, plan.url, headers, body))
        document = _token_document(answer, "the login")
        return _token_of(document, plan.token_path), _life_ms(document, plan.expires_in_path)

    def _with_token(self, draft: Draft, token: str) -> Draft:
        name, _, text = self._plan.inject.partition(":")
        return with_header(draft, name.strip(), text.strip().replace("{token}", token))


class Jwt(TokenSource):
    """A token that is signed here, or one that such a token is exchanged for."""

    def __init__(self, plan: JwtPlan, send: Send, clock: Clock) -> None:
        super().__init__(clock)
        self._plan, self._send = plan, send

    async def _fetch(self) -> tuple[str, int]:
        plan, now_s = self._plan, self._clock.now_ms() // 1000
        claims = {"iat": now_s, "exp": now_s + JWT_LIFE_S, **plan.claims}
        token = sign(plan.header, claims, plan.key, plan.algorithm)
        if not plan.token_url:
            return token, JWT_LIFE_S * 1000
        form = {"grant_type": JWT_GRANT, "assertion": token}
        form |= {str(k): str(v) for k, v in plan.params.items()}
        body = urlencode(form).encode()
        answer = await self._send(Request("POST", plan.token_url, FORM_HEADERS, body))
        document = _token_document(answer, "the token endpoint")
        return _token_of(document, "access_token"), _life_ms(document, "expires_in")


def auth_for(plan: AuthPlan | None, send: Send, notes: Notes, clock: Clock) -> Auth:
    """The credentials of one source; `send` asks token endpoints."""
    if plan is None:
        return NoAuth()
    if plan.kind == "oauth2":
        return OAuth(plan, send, notes, clock)
    if plan.kind == "session":
        return Session(plan, send, clock)
    if plan.kind == "jwt":
        return Jwt(plan, send, clock)
    return StaticAuth(plan)


def with_header(draft: Draft, name: str, value: str) -> Draft:
    """The draft with this header instead of any of the name in the config."""
    kept = {n: v for n, v in draft.headers.items() if n.lower() != name.lower()}
    kept[name] = header_value(value)
    return Draft(draft.method, draft.url, kept, draft.body, draft.params, draft.fields)


def basic(username: str, password: str) -> str:
    """The value of a basic Authorization header."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _token_document(answer: Response, who: str) -> Document:
    document = Document(answer.body)
    if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
        raise PollError(f"auth failed: {who} answered {status_text(answer.status)}{_why(document)}")
    return document


def _why(document: Document) -> str:
    """The standard error field of a token endpoint; nothing else of its answer is shown."""
    try:
        value = document.value("error")
    except PollError:
        return ""
    return f" ({printable(value)[:60]})" if isinstance(value, str) else ""


def _token_of(document: Document, path: str) -> str:
    try:
        token = document.token(path)
    except PollError:
        token = None
    if token is None:
        raise PollError(f"auth failed: the answer has no token at {path}")
    return str(token)


def _life_ms(document: Document, path: str) -> int:
    try:
        value = document.value(path) if path else None
        return max(1, int(float(value) * 1000))  # type: ignore[arg-type]
    except (PollError, TypeError, ValueError, OverflowError):
        return DEFAULT_LIFE_MS
