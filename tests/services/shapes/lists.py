"""Services without any cursor: a plain array, one object, offset and limit, page numbers."""

import hashlib
import json
from typing import Any

from tests.harness.scripted import Reply, Request
from tests.services.service import Page, Record, Service, answer, query


class Stations(Service):
    """The whole list as one array, with an ETag and 304."""

    name = "stations-array"
    origin = "https://data.transit.example"
    path = "/stations.json"
    paged = False

    def __init__(self, count: int = 8, page_size: int = 3) -> None:
        self.not_modified = 0
        """Answers without a body."""
        super().__init__(count, page_size)

    def make(self, number: int) -> Record:
        position = [9.993682 + number / 10, 53.551085]
        return {"id": number, "name": f"Haltestelle {number}", "position": position, "bikes": 4}

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "bikes": edit + 10}

    def token(self, request: Request) -> str | None:
        return None

    def render(self, page: Page) -> Reply:
        etag = f'"{hashlib.sha256(json.dumps(page.records).encode()).hexdigest()[:16]}"'
        if page.request.headers.get("if-none-match") == etag:
            self.not_modified += 1
            return Reply(304, headers={"ETag": etag})
        return answer(page.records, headers={"ETag": etag})


class Rates(Service):
    """One object, no list: the record is the whole answer."""

    name = "rates-object"
    origin = "https://rates.example"
    path = "/v1/latest"
    key = "base"
    paged = False

    def __init__(self, count: int = 1, page_size: int = 1) -> None:
        super().__init__(1, page_size)

    def make(self, number: int) -> Record:
        return {"base": "EUR", "date": "2026-02-01", "rates": {"USD": 1.08, "JPY": 162.5}}

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "rates": {**record["rates"], "USD": round(1.08 + edit / 100, 2)}}

    def token(self, request: Request) -> str | None:
        return None

    def render(self, page: Page) -> Reply:
        return answer(page.records[0])


class Inventory(Service):
    """offset and limit, with a total; a page beyond the end is empty."""

    name = "inventory-offset"
    origin = "https://inventory.example"
    path = "/v1/items"

    def make(self, number: int) -> Record:
        return {"sku": f"A-{number:04d}", "warehouse": {"id": "HH"}, "on_hand": number, "price": 2}

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "on_hand": 1000 + edit}

    def key_of(self, record: Record) -> str:
        return f"{record['warehouse']['id']}:{record['sku']}"

    def token(self, request: Request) -> str | None:
        offset = query(request).get("offset", "0")
        return None if offset == "0" else offset

    def position(self, token: str) -> int:
        return int(token)

    def render(self, page: Page) -> Reply:
        return answer({"items": page.records, "total": page.total, "offset": page.start})


class Orders(Service):
    """Page numbers with the number of pages; an empty page after the last."""

    name = "orders-pages"
    origin = "https://shop.example"
    path = "/api/orders"

    def make(self, number: int) -> Record:
        lines: list[dict[str, Any]] = [{"sku": "A-0001", "qty": number}]
        return {"id": number, "status": "pending", "total": 45.0, "lines": lines}

    def touch(self, record: Record, edit: int) -> Record:
        return {**record, "status": f"paid {edit}"}

    def token(self, request: Request) -> str | None:
        page = query(request).get("page", "1")
        return None if page == "1" else page

    def position(self, token: str) -> int:
        return (int(token) - 1) * self.page_size

    def render(self, page: Page) -> Reply:
        pages = -(-page.total // self.page_size)
        return answer({"orders": page.records, "meta": {"total_pages": pages}})
