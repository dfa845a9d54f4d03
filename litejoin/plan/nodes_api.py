"""The parts of an api source's plan: frozen values, one class for each block of its config.

Made by `plan.compile_api`, read by the api source. Like `plan.nodes`: milliseconds, bytes, names as
in the config, secrets as `Secret`. Nothing here does anything.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from litejoin.frozen import dataclass


class Secret(str):
    """A text that must not be shown: prints as `***`; use it as a str only where it is sent."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


PagingKind = Literal[
    "none", "auto", "link_header", "next_url", "header_cursor", "cursor", "seek", "offset", "page",
    "time_slice",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class PagingPlan:
    """How the next page is found. What a kind does not use keeps its default."""

    kind: PagingKind = "none"
    path: str = ""
    """gjson path: next_url and cursor in the response, seek in the last record."""
    param: str = ""
    body_path: str = ""
    header: str = ""
    rel: str = "next"
    inject: Literal["query", "header", "body", "path"] = "query"
    has_more_path: str = ""
    end_path: str = ""
    stop_after_empty_page: bool = False
    start: int = 0
    size: int | None = None
    """Records of a page: `limit` of offset, `size` of page."""
    size_param: str = ""
    size_body_path: str = ""
    total_path: str = ""
    """Offset: the number of records; page: the number of pages."""
    most: int | None = None
    """max_offset or max_page."""
    since: str = ""
    """time_slice `from`: RFC 3339, or a duration before now."""
    step_ms: int = 0
    from_param: str = ""
    to_param: str = ""
    format: str = "rfc3339"
    max_pages: int = 1
    max_records: int | None = None
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """A credential that never changes. bearer: `value`; basic: `name` and `value`; api_key: `value`
    under `name`, in `place`.
    """

    kind: Literal["bearer", "basic", "api_key"]
    value: Secret
    name: str = ""
    place: Literal["header", "query", "cookie"] = "header"


@dataclass(frozen=True, slots=True)
class OAuthPlan:
    """OAuth 2 by client credentials, or by refresh token when there is one."""

    token_url: str
    client_id: str
    client_secret: Secret
    auth_style: Literal["header", "body"]
    scopes: tuple[str, ...] = ()
    params: Mapping[str, Secret] = field(default_factory=dict)
    refresh_token: Secret | None = None
    kind: Literal["oauth2"] = "oauth2"


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """A login request whose answer holds a token."""

    url: str
    method: str
    body: Secret | None
    token_path: str
    expires_in_path: str
    inject: str
    """`Header: text with {token}`."""
    kind: Literal["session"] = "session"


@dataclass(frozen=True, slots=True)
class JwtPlan:
    """A JWT that is signed here; sent as it is, or exchanged at `token_url` when there is one."""

    key: Secret
    algorithm: str
    claims: Mapping[str, Any]
    header: Mapping[str, Any]
    token_url: str = ""
    params: Mapping[str, Secret] = field(default_factory=dict)
    kind: Literal["jwt"] = "jwt"


AuthPlan = TokenAuth | OAuthPlan | SessionPlan | JwtPlan


@dataclass(frozen=True, slots=True)
class WatermarkPlan:
    """What a poll tells the API that it has already."""

    strategy: Literal["none", "timestamp", "cursor", "etag"] = "none"
    path: str = ""
    param: str = ""
    header: str = ""
    body_path: str = ""
    format: str = "rfc3339"
    initial: str | None = None
    lookback_ms: int = 0
    sweep_ms: int | None = None
    """full_sweep_interval."""

    @property
    def filters(self) -> bool:
        """A poll does not show everything."""
        return self.strategy in ("timestamp", "cursor")


@dataclass(frozen=True, slots=True)
class RatePlan:
    """The budget of requests; the limits that are None do not hold."""

    per_second: float | None = None
    per_minute: float | None = None
    burst: int = 1
    group: str = ""
    """Empty: the host of the URL."""


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """Attempts of one request within a poll."""

    max_attempts: int = 1
    backoff_ms: int = 1000
    max_backoff_ms: int = 300_000
    statuses: tuple[str, ...] = ("429", "5xx")


@dataclass(frozen=True, slots=True)
class ActionPlan:
    """What to do with a response: all of the given conditions hold."""

    action: Literal["fail", "ignore", "retry", "stop"]
    status: str | None = None
    contains: str | None = None


@dataclass(frozen=True, slots=True)
class AdaptivePlan:
    """Bounds of an interval that follows what happens."""

    min_ms: int
    max_ms: int


@dataclass(frozen=True, slots=True)
class ForEachPlan:
    """One walk for each record of another topic; `{param}` of the URL is the value at `path`."""

    topic: str
    path: str
    param: str
    include: tuple[str, ...] = ()
    """include_from_parent."""


@dataclass(frozen=True, slots=True)
class ApiTlsPlan:
    """TLS towards the API."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
