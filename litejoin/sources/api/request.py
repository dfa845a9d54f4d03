"""A request in the making: URL, parameters, headers and JSON body, before credentials are added.

`Draft` is immutable; pagination and watermarks put their values in by `with_value`. Knows what goes
where in a request, nothing of what it means. Blocks on nothing; any thread.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

import urllib3

from litejoin import __version__
from litejoin.errors import PollError
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.sources.api.document import Number
from litejoin.sources.api.transport import Request, userinfo
from litejoin.sources.api.words import printable

PORTS = {"http": 80, "https": 443}
MAX_URL_CHARS = 16 * 1024
"""A next URL that is longer comes from a server that does not mean well."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What to ask. `params` are added to the URL's own query, replacing those of one name."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[tuple[str, Any], ...] = ()
    """(path, value) pairs for the JSON body."""

    def with_value(self, inject: str, name: str, value: Any, body_path: str = "") -> "Draft":
        """The draft with one more value: in the query, a header, the body or the path."""
        text = value if isinstance(value, str) else json.dumps(value)
        if body_path or inject == "body":
            return replace(self, fields=(*self.fields, (body_path or name, value)))
        if inject == "header":
            return replace(self, headers={**self.headers, name: header_value(text)})
        if inject == "path":
            return self._in_path(name, text)
        return replace(self, params={**self.params, name: text})

    def _in_path(self, name: str, text: str) -> "Draft":
        """`{name}` of the URL is the value; without that, the value is the URL of the page."""
        if f"{{{name}}}" in self.url:
            return replace(self, url=self.url.replace(f"{{{name}}}", quote(text, safe="")))
        return self.at(text)

    def at(self, link: str) -> "Draft":
        """The draft for a URL that the API named; the same origin only. Raises PollError."""
        url = resolve(self.url, link)
        return replace(self, url=url, params={})

    def request(self) -> Request:
        """What is sent. Raises PollError when a value has to go into a body that is no object."""
        body = self.body
        if self.fields:
            body = _filled(body, self.fields)
        return Request(self.method, _with_params(self.url, self.params), self.headers,
                       None if body is None else body.encode())  # fmt: skip


def first_draft(plan: ApiSourcePlan) -> Draft:
    """The request as the config has it."""
    url = urllib3.util.parse_url(plan.url)
    return Draft(
        plan.method,
        url._replace(auth=None, fragment=None).url if url.auth or url.fragment else plan.url,
        _headers(plan, url.auth),
        plan.body,
        {name: str(value) for name, value in plan.params.items()},
    )


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port). Raises PollError for what is not http or https."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname or "", parts.port
    except ValueError:
        scheme, host, port = "", "", None
    if scheme not in PORTS or not host:
        raise PollError(f"not a URL: {printable(url)[:100]!r}")
    return scheme, host.lower(), port or PORTS[scheme]


def resolve(base: str, link: str) -> str:
    """The absolute URL of a link, which must stay on the origin of `base`. Raises PollError."""
    if len(link) > MAX_URL_CHARS or not link.isprintable() or " " in link:
        raise PollError(f"the next page's URL cannot be used: {printable(link)[:100]!r}")
    try:
        url = urljoin(base, link)
    except ValueError:
        raise PollError(f"not a URL: {printable(link)[:100]!r}") from None
    if origin(url) != origin(base):
        scheme, host, port = origin(url)
        raise PollError(f"the next page is on another origin ({scheme}://{host}:{port}); not asked")
    return url.partition("#")[0]


POSITIONS = frozenset(
    "page pagenumber page_number pageindex page_index p offset skip $skip start startat startindex"
    " start_index from".split()
)
"""Parameters that count pages or records: a record that comes or goes shifts what they name."""


def is_position(url: str) -> bool:
    """Does this URL of a page name it by its number?"""
    query = parse_qsl(url.partition("?")[2])
    return any(name.lower() in POSITIONS and value.isdigit() for name, value in query)


def header_value(text: str) -> str:
    """Raises PollError for a value that would end the header."""
    if not text.isprintable() or not text.isascii():
        raise PollError(f"a header cannot hold {printable(text)[:60]!r}")
    return text


def _with_params(url: str, params: Mapping[str, str]) -> str:
    if not params:
        return url
    head, _, query = url.partition("?")
    kept = [(n, v) for n, v in parse_qsl(query, keep_blank_values=True) if n not in params]
    if len(kept) == len(parse_qsl(query, keep_blank_values=True)):  # as it was written
        return f"{head}?{query}&{urlencode(params)}" if query else f"{head}?{urlencode(params)}"
    return f"{head}?{urlencode([*kept, *params.items()])}"


def _filled(body: str | None, fields: tuple[tuple[str, Any], ...]) -> str:
    try:
        tree = json.loads(body) if body else {}
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise PollError("the request body is not a JSON object: no value can be put into it")
    for path, value in fields:
        here, *names = tree, *path.split(".")
        for name in names[:-1]:
            inner = here.get(name)
            if not isinstance(inner, dict):
                inner = here[name] = {}
            here = inner
        here[names[-1]] = _plain(value)
    return json.dumps(tree, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A number that was kept as it is spelled is a number in the body."""
    if not isinstance(value, Number):
        return value
    try:
        number = float(value) if set(value) & set(".eE") else int(value)
    except ValueError:  # thousands of digits
        number = math.inf
    if not math.isfinite(number):
        raise PollError(f"a body cannot hold the number {printable(value)[:60]}")
    return number


def _headers(plan: ApiSourcePlan, auth: str | None) -> dict[str, str]:
    """What is sent; the config's own headers replace ours whatever their case."""
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "User-Agent": f"litejoin/{__version__}",
    }
    places = (plan.paging.body_path, plan.paging.size_body_path, plan.watermark.body_path)
    if plan.body is not None or plan.paging.inject == "body" or any(places):
        headers["Content-Type"] = "application/json"
    if auth:
        headers["Authorization"] = userinfo(auth)
    given = {name.lower() for name in plan.headers}
    ours = {name: value for name, value in headers.items() if name.lower() not in given}
    return ours | {name: str(value) for name, value in plan.headers.items()}
