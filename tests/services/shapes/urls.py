"""Services that put the next page's URL into the body: Salesforce (relative), OData (absolute)."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.harness.scripted import Reply, Request
from tests.services.service import Page, Record, Service, answer, query


class Salesforce(Service):
    """`nextRecordsUrl` is a path; `done` says whether it is there. OAuth 2 client credentials.

    A query's result stays as it was at its first page.
    """

    name = "salesforce-accounts"
    origin = "https://acme.my.salesforce.com"
    path = "/services/data/v59.0/query"
    secrets = {
        "SALESFORCE_CLIENT_ID": "salesforce-client-for-tests",
        "SALESFORCE_CLIENT_SECRET": "salesforce-secret-for-tests",
    }
    key = "Id"
    token_path = "/services/oauth2/token"

    def __init__(self, count: int = 8, page_size: int = 3) -> None:
        self.issued = 0
        """Access tokens given out; only the latest is good."""
        self.expires_in: int | None = None
        self._result: list[Record] = []
        super().__init__(count, page_size)

    def make(self, number: int) -> Record:
        record_id = f"001D000000IRF{number:05d}"
        return {
            "attributes": {"type": "Account", "url": f"/services/data/v59.0/sobjects/{record_id}"},
            "Id": record_id,
            "Name": f"Grand Hotels & Resorts {number}",
            "AnnualRevenue": 5.0e8 + number,
            "LastModifiedDate": "2026-01-01T00:00:00.000+0000",
        }

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "AnnualRevenue": 1.0e6 + edit}

    def route(self, request: Request) -> Reply | None:
        if urlsplit(request.path).path != self.token_path:
            return None
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form.get("grant_type") != "client_credentials" or request.method != "POST":
            return answer({"error": "unsupported_grant_type"}, 400)
        wanted = tuple(self.secrets.values())
        if (form.get("client_id"), form.get("client_secret")) != wanted:
            return answer({"error": "invalid_client_id"}, 401)
        self.issued += 1
        body: dict[str, Any] = {"access_token": f"00D!{self.issued}", "token_type": "Bearer"}
        return answer(body if self.expires_in is None else {**body, "expires_in": self.expires_in})

    def _refuse(self, request: Request) -> Reply | None:
        if self.issued and request.headers.get("authorization") == f"Bearer 00D!{self.issued}":
            return None
        return answer([{"message": "Session expired", "errorCode": "INVALID_SESSION_ID"}], 401)

    def expire(self) -> None:
        """The token that is out stops being good, without notice."""
        self.issued += 1

    def token(self, request: Request) -> str | None:
        path = urlsplit(request.path).path
        return None if path == self.path else path.rpartition("-")[2]

    def show(self, request: Request, token: str | None) -> tuple[Reply, bool]:
        if token is None:
            self._result = list(self.records)
        start = 0 if token is None else int(token)
        stop, total = start + self.page_size, len(self._result)
        page = Page(self._result[start:stop], start, stop < total, total, request)
        return self.render(page), not page.more

    def render(self, page: Page) -> Reply:
        body: dict[str, Any] = {"totalSize": page.total, "done": not page.more}
        if page.more:
            at = page.start + len(page.records)
            body["nextRecordsUrl"] = f"{self.path}/01gD0000002HU6KIAW-{at}"
        return answer({**body, "records": page.records})


class OData(Service):
    """`@odata.nextLink` is a whole URL with an opaque `$skiptoken`."""

    name = "odata-customers"
    origin = "https://services.odata.example"
    path = "/v4/Customers"
    key = "CustomerID"
    by_key = True

    def make(self, number: int) -> Record:
        return {
            "@odata.etag": f'W/"{number}"',
            "CustomerID": f"ALFK{number:04d}",
            "CompanyName": f"Alfreds Futterkiste {number}",
            "Fax": None,
        }

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "Fax": f"030-{edit:07d}"}

    def token(self, request: Request) -> str | None:
        return query(request).get("$skiptoken")

    def render(self, page: Page) -> Reply:
        body: dict[str, Any] = {"@odata.context": f"{self.url}/v4/$metadata#Customers"}
        body["value"] = page.records
        if page.more:
            token = self.next_token(page).replace("=", "%3D").replace("+", "%2B")
            body["@odata.nextLink"] = f"{self.url}{self.path}?$skiptoken={token}"
        return answer(body, headers={"OData-Version": "4.0"})
