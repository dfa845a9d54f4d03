"""Services that hand out a cursor in the body: Stripe, Slack, Zendesk, HubSpot, GraphQL."""

import json
from base64 import b64encode
from typing import Any

from tests.harness.scripted import Reply, Request
from tests.services.service import BadCursor, Page, Record, Service, answer, query


class Stripe(Service):
    """`starting_after` is the id of the last record; `has_more` says whether to ask on."""

    name = "stripe-charges"
    origin = "https://api.stripe.com"
    path = "/v1/charges"
    secrets = {"STRIPE_KEY": "stripe-key-for-tests"}
    needs = {"authorization": f"Bearer {secrets['STRIPE_KEY']}"}
    by_key = True

    def make(self, number: int) -> Record:
        return {
            "id": f"ch_3MmlLrLkdIwHu7ix{number:06d}",
            "object": "charge",
            "amount": 1099 + number,
            "currency": "usd",
            "livemode": False,
            "metadata": {},
            "status": "succeeded",
        }

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "metadata": {"note": f"edit {edit}"}}

    def token(self, request: Request) -> str | None:
        return query(request).get("starting_after")

    def position(self, token: str) -> int:
        if not token.startswith("ch_"):
            raise BadCursor(token)
        return sum(self.key_of(record) <= token for record in self.records)

    def render(self, page: Page) -> Reply:
        return answer(
            {"object": "list", "url": self.path, "has_more": page.more, "data": page.records}
        )


class Slack(Service):
    """Every answer is 200; `ok` says whether it is one. The last page's cursor is an empty text.

    Its JSON has no blanks, which a text to look for in it must know.
    """

    name = "slack-users"
    origin = "https://slack.com"
    path = "/api/users.list"
    secrets = {"SLACK_TOKEN": "slack-token-for-tests"}
    needs = {"authorization": f"Bearer {secrets['SLACK_TOKEN']}"}
    by_key = True

    def make(self, number: int) -> Record:
        return {
            "id": f"W{number:08d}",
            "team_id": "T012AB3C4",
            "name": f"spengler{number}",
            "deleted": False,
            "profile": {"status_emoji": ":books:", "real_name": "Egon Spengler 🕶"},
            "updated": 1502138686,
        }

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "updated": 1502138686 + edit}

    def _refuse(self, request: Request) -> Reply | None:
        refused = super()._refuse(request)
        return None if refused is None else self.error("invalid_auth")

    def error(self, code: str) -> Reply:
        """How Slack says that it will not."""
        return _compact({"ok": False, "error": code})

    def token(self, request: Request) -> str | None:
        return query(request).get("cursor") or None

    def render(self, page: Page) -> Reply:
        after = self.next_token(page) if page.more else ""
        metadata = {"next_cursor": after}
        return _compact({"ok": True, "members": page.records, "response_metadata": metadata})


def _compact(value: Any) -> Reply:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Reply(200, body, {"Content-Type": "application/json; charset=utf-8"})


class Zendesk(Service):
    """An incremental export: the cursor goes on past the end, `end_of_stream` marks it.

    An edit moves a record to the end of the stream: a client that keeps its cursor sees it again.
    """

    name = "zendesk-tickets"
    origin = "https://acme.zendesk.com"
    path = "/api/v2/incremental/tickets/cursor.json"
    resumes = True
    secrets = {"ZENDESK_TOKEN": "zendesk-token-for-tests"}
    needs = {
        "authorization": "Basic "
        + b64encode(f"agent@acme.example/token:{secrets['ZENDESK_TOKEN']}".encode()).decode()
    }

    def __init__(self, count: int = 8, page_size: int = 3) -> None:
        self._generated: list[tuple[int, str]] = []
        self._clock = 0
        super().__init__(count, page_size)

    def make(self, number: int) -> Record:
        return {
            "id": 35_000 + number,
            "subject": f"Help, my printer is on fire! ({number})",
            "status": "open",
            "priority": None,
            "tags": ["enterprise", "other_tag"],
            "generated_timestamp": self._tick(),
        }

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "status": f"pending {edit}", "generated_timestamp": self._tick()}

    def _tick(self) -> int:
        self._clock += 1
        return 1_332_034_771 + self._clock

    def _stream(self) -> list[Record]:
        return sorted(self.records, key=lambda record: int(record["generated_timestamp"]))

    def token(self, request: Request) -> str | None:
        return query(request).get("cursor")

    def show(self, request: Request, token: str | None) -> tuple[Reply, bool]:
        since = 0 if token is None else _zendesk_time(token)
        stream = [r for r in self._stream() if r["generated_timestamp"] > since]
        shown = stream[: self.page_size]
        cursor = _zendesk_cursor(shown[-1]["generated_timestamp"] if shown else since)
        ended = len(stream) <= self.page_size
        body: dict[str, Any] = {
            "tickets": shown,
            "after_url": f"{self.url}{self.path}?cursor={cursor}",
            "after_cursor": cursor,
            "before_cursor": None,
            "end_of_stream": ended,
        }
        return answer(body), ended


def _zendesk_cursor(at: int) -> str:
    return f"MTU{at:012d}LjB8fDEzNTE="


def _zendesk_time(cursor: str) -> int:
    if not cursor.startswith("MTU") or not cursor.endswith("LjB8fDEzNTE="):
        raise BadCursor(cursor)
    return int(cursor[3:15])


class HubSpot(Service):
    """`paging.next.after`; no `paging` at all on the last page."""

    name = "hubspot-contacts"
    origin = "https://api.hubapi.com"
    path = "/crm/v3/objects/contacts"
    secrets = {"HUBSPOT_TOKEN": "hubspot-token-for-tests"}
    needs = {"authorization": f"Bearer {secrets['HUBSPOT_TOKEN']}"}
    by_key = True

    def make(self, number: int) -> Record:
        return {
            "id": str(100_000 + number),
            "properties": {"email": f"c{number}@example.com", "lastname": "O’Neill", "age": None},
            "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z",
            "archived": False,
        }

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "properties": {**record["properties"], "age": str(edit)}}

    def token(self, request: Request) -> str | None:
        return query(request).get("after")

    def position(self, token: str) -> int:
        if not token.isdecimal():
            raise BadCursor(token)
        return sum(self.key_of(record) <= token for record in self.records)

    def next_token(self, page: Page) -> str:
        return self.key_of(page.records[-1])

    def render(self, page: Page) -> Reply:
        body: dict[str, Any] = {"results": page.records}
        if page.more:
            after = self.next_token(page)
            link = f"{self.url}{self.path}?limit=100&after={after}"
            body["paging"] = {"next": {"after": after, "link": link}}
        return answer(body)


class GraphQL(Service):
    """POST; the cursor travels in `variables`; errors come with 200 and `data: null`."""

    name = "graphql-issues"
    origin = "https://api.linear.app"
    path = "/graphql"
    secrets = {"LINEAR_KEY": "linear-key-for-tests"}
    needs = {"authorization": secrets["LINEAR_KEY"], "content-type": "application/json"}
    by_key = True

    def make(self, number: int) -> Record:
        return {
            "id": f"9cfb482a-81e3-4154-b5b9-{number:012d}",
            "title": f"Issue {number}",
            "estimate": number / 2,
            "assignee": {"email": "ada@example.com"} if number % 2 else None,
        }

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "estimate": edit + 0.25}

    def token(self, request: Request) -> str | None:
        after: str | None = request.json["variables"].get("after")
        return after

    def _refuse(self, request: Request) -> Reply | None:
        refused = super()._refuse(request)
        if refused is None and request.method == "POST" and "issues" in request.json["query"]:
            return None
        return refused or answer({"errors": [{"message": "Cannot query field"}], "data": None})

    def render(self, page: Page) -> Reply:
        end = self.next_token(page) if page.records else None
        info = {"hasNextPage": page.more, "endCursor": end}
        return answer({"data": {"issues": {"nodes": page.records, "pageInfo": info}}})
