"""An api source of the document -> its plan.

Called by `compile_sources`; one function for each block of `api:`.
"""

import json
from typing import Any

from litejoin.plan.nodes import ApiSourcePlan, Secret
from litejoin.plan.nodes_api import (
    ActionPlan,
    AdaptivePlan,
    ApiTlsPlan,
    AuthPlan,
    ForEachPlan,
    JwtPlan,
    OAuthPlan,
    PagingKind,
    PagingPlan,
    RatePlan,
    RetryPlan,
    SessionPlan,
    TokenAuth,
    WatermarkPlan,
)
from litejoin.plan.redact import shown_url
from litejoin.plan.section import Section


def compile_api(source: Section) -> ApiSourcePlan:
    """The plan of one api source."""
    api = source.section("api")
    paging = _paging(api.section("pagination"))
    rate = _rate(api.section("rate_limit"))
    least, most = _pages(paging)
    return ApiSourcePlan(
        name=source.text("name"),
        topic=source.text("topic"),
        url=api.text("url"),
        method=api.value["method"],
        interval_ms=api.duration_ms("interval"),
        key_path=api.texts("key_path"),
        response_path=api.text("response_path"),
        change_detection=api.value["change_detection"],
        detect_deletes=api.flag("detect_deletes"),
        timeout_ms=api.duration_ms("timeout"),
        initial_snapshot=api.flag("initial_snapshot"),
        headers={name: Secret(value) for name, value in api.section("headers").value.items()},
        body=_body(api),
        max_consecutive_failures=api.integer("max_consecutive_failures"),
        ignore_fields=api.texts("ignore_fields"),
        max_response_bytes=api.size_bytes("max_response_bytes"),
        pagination=paging.kind,
        min_pages=least,
        max_pages=most,
        allowed_per_minute=_allowed_per_minute(rate),
        shown_url=shown_url(api.document.shown(api.at("url")) or ""),
        rate_group=rate.group,
        fastest_interval_ms=api.section("adaptive").maybe_duration_ms("min_interval"),
        parent_topic=api.section("for_each").maybe_text("topic"),
        params={name: Secret(value) for name, value in api.section("params").value.items()},
        paging=paging,
        auth=_auth(api.section("auth")),
        watermark=_watermark(api),
        rate=rate,
        retry=_retry(api.section("retry")),
        adaptive=_adaptive(api.section("adaptive")),
        response_actions=tuple(_action(each) for each in api.sections("response_actions")),
        for_each=_for_each(api),
        on_duplicate_key=api.value["on_duplicate_key"],
        on_missing_key=api.value["on_missing_key"],
        follow_redirects=api.text("follow_redirects") == "same_origin",
        tls=_tls(api.section("tls")),
        proxy=Secret(api.text("proxy")) if "proxy" in api.value else None,
    )


def _body(section: Section) -> str | None:
    """A request body; a mapping or a list is sent as JSON."""
    body = section.value.get("body")
    if body is None or isinstance(body, str):
        return None if body is None else str(body)
    return json.dumps(body, ensure_ascii=False)


PAGE_KEYS = {
    "offset": ("offset_param", "limit", "limit_param"),
    "page": ("param", "size", "size_param"),
}
"""The keys of the position, the records of a page, and its parameter."""


def _paging(pagination: Section) -> PagingPlan:
    value = pagination.value
    kind: PagingKind = value["type"]
    if kind == "none":
        return PagingPlan()
    param, size, size_param = PAGE_KEYS.get(kind, ("param", "", ""))
    return PagingPlan(
        kind=kind,
        path=pagination.text("path"),
        param=pagination.text(param),
        body_path=pagination.text("offset_body_path" if kind == "offset" else "body_path"),
        header=pagination.text("header"),
        rel=pagination.text("rel") or "next",
        inject=value.get("inject", "query"),
        has_more_path=pagination.text("has_more_path"),
        end_path=pagination.text("end_path"),
        stop_after_empty_page=pagination.flag("stop_after_empty_page"),
        start=int(value.get("start", 0)),
        size=value.get(size),
        size_param=pagination.text(size_param),
        size_body_path=pagination.text("limit_body_path"),
        total_path=pagination.text("total_pages_path" if kind == "page" else "total_path"),
        most=value.get("max_offset", value.get("max_page")),
        since=pagination.text("from"),
        step_ms=pagination.maybe_duration_ms("step") or 0,
        from_param=pagination.text("from_param"),
        to_param=pagination.text("to_param"),
        format=pagination.text("format") or "rfc3339",
        max_pages=int(value.get("max_pages", 1000)),
        max_records=value.get("max_records"),
        delay_ms=pagination.maybe_duration_ms("page_delay") or 0,
    )


def _pages(paging: PagingPlan) -> tuple[int, int]:
    """The least and the most pages of a poll; at the most a walk is given up as incomplete."""
    if paging.kind == "none":
        return 1, 1
    most, size = paging.max_pages, paging.size
    if paging.most is not None and paging.kind == "page":
        most = min(most, paging.most - paging.start + 1)
    if paging.most is not None and paging.kind == "offset" and size:
        most = min(most, (paging.most - paging.start) // size + 1)
    if paging.max_records is not None and size:
        most = min(most, -(-paging.max_records // size))
    return 1, max(1, most)


def _secrets(values: dict[str, Any]) -> dict[str, Secret]:
    return {name: Secret(value) for name, value in values.items()}


def _auth(auth: Section) -> AuthPlan | None:
    kind = auth.value.get("type")
    if kind is None:
        return None
    if kind == "bearer":
        return TokenAuth("bearer", Secret(auth.text("token")))
    if kind == "basic":
        return TokenAuth("basic", Secret(auth.text("password")), auth.text("username"))
    if kind == "api_key":
        place = auth.value["in"]
        return TokenAuth("api_key", Secret(auth.text("value")), auth.text("name"), place)
    if kind == "session":
        return _session(auth)
    if kind == "jwt":
        return _jwt(auth)
    return OAuthPlan(
        token_url=auth.text("token_url"),
        client_id=auth.text("client_id"),
        client_secret=Secret(auth.text("client_secret")),
        auth_style=auth.value["auth_style"],
        scopes=auth.texts("scopes"),
        params=_secrets(auth.section("params").value),
        refresh_token=Secret(auth.text("refresh_token")) if "refresh_token" in auth.value else None,
    )


def _jwt(auth: Section) -> JwtPlan:
    return JwtPlan(
        key=Secret(auth.text("key")),
        algorithm=auth.text("algorithm"),
        claims=auth.value["claims"],
        header=auth.value["header"],
        token_url=auth.text("token_url"),
        params=_secrets(auth.section("params").value),
    )


def _session(auth: Section) -> SessionPlan:
    login = auth.section("login")
    body = _body(login)
    return SessionPlan(
        url=login.text("url"),
        method=login.value.get("method", "POST"),
        body=None if body is None else Secret(body),
        token_path=auth.text("token_path"),
        expires_in_path=auth.text("expires_in_path"),
        inject=auth.text("inject"),
    )


def _watermark(api: Section) -> WatermarkPlan:
    watermark = api.section("watermark")
    return WatermarkPlan(
        strategy=watermark.value["strategy"],
        path=watermark.text("path"),
        param=watermark.text("param"),
        header=watermark.text("header"),
        body_path=watermark.text("body_path"),
        format=watermark.text("format") or "rfc3339",
        initial=watermark.maybe_text("initial"),
        lookback_ms=watermark.maybe_duration_ms("lookback") or 0,
        sweep_ms=api.maybe_duration_ms("full_sweep_interval"),
    )


def _rate(rate_limit: Section) -> RatePlan:
    value = rate_limit.value
    return RatePlan(
        per_second=value.get("requests_per_second"),
        per_minute=value.get("requests_per_minute"),
        burst=int(value.get("burst", 1)),
        group=rate_limit.text("group"),
    )


def _allowed_per_minute(rate: RatePlan) -> float | None:
    """The stricter of the two limits, None without any."""
    per_second = None if rate.per_second is None else rate.per_second * 60
    return min((float(x) for x in (per_second, rate.per_minute) if x is not None), default=None)


RETRY = RetryPlan(max_attempts=3)
"""Without a `retry` block: the defaults of its keys."""


def _retry(retry: Section) -> RetryPlan:
    if not retry.value:
        return RETRY
    return RetryPlan(
        max_attempts=retry.integer("max_attempts"),
        backoff_ms=retry.duration_ms("backoff"),
        max_backoff_ms=retry.duration_ms("max_backoff"),
        statuses=tuple(str(each).lower() for each in retry.value["statuses"]),
    )


def _adaptive(adaptive: Section) -> AdaptivePlan | None:
    if not adaptive.value:
        return None
    return AdaptivePlan(adaptive.duration_ms("min_interval"), adaptive.duration_ms("max_interval"))


def _action(action: Section) -> ActionPlan:
    status = action.maybe_text("status")
    return ActionPlan(
        action.value["action"], status.lower() if status else None, action.maybe_text("contains")
    )


def _for_each(api: Section) -> ForEachPlan | None:
    for_each = api.section("for_each")
    if not for_each.value:
        return None
    return ForEachPlan(
        topic=for_each.text("topic"),
        path=for_each.text("path"),
        param=for_each.text("param"),
        include=api.texts("include_from_parent"),
    )


def _tls(tls: Section) -> ApiTlsPlan:
    return ApiTlsPlan(
        ca_file=tls.maybe_text("ca_file"),
        cert_file=tls.maybe_text("cert_file"),
        key_file=tls.maybe_text("key_file"),
        verify=bool(tls.value.get("verify", True)),
    )
