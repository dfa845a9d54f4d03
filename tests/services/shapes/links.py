"""Services that name the next page in a `Link` header: GitHub, Shopify."""

from tests.harness.scripted import Reply, Request
from tests.services.service import Page, Record, Service, answer, query, with_query


class GitHub(Service):
    """Page numbers behind `Link`, an array as body, counted by X-RateLimit-*."""

    name = "github-issues"
    origin = "https://api.github.com"
    path = "/repos/acme/shop/issues"
    key = "number"
    secrets = {"GITHUB_TOKEN": "github-token-for-tests"}
    needs = {
        "authorization": f"Bearer {secrets['GITHUB_TOKEN']}",
        "accept": "application/vnd.github+json",
    }

    def make(self, number: int) -> Record:
        return {
            "id": 1_296_269_000 + number,
            "node_id": f"MDU6SXNzdWU{number}",
            "number": number,
            "state": "open" if number % 3 else "closed",
            "title": f"Fünd a bug \u2014 nr. {number}",
            "user": {"login": "octocat", "id": 1, "site_admin": False},
            "labels": [{"id": 208045946, "name": "bug", "default": True}],
            "pull_request": None,
            "reactions": {"+1": number, "-1": 0},
            "updated_at": "2026-02-01T09:00:00Z",
        }

    def token(self, request: Request) -> str | None:
        page = query(request).get("page", "1")
        return None if page == "1" else page

    def position(self, token: str) -> int:
        return (int(token) - 1) * self.page_size

    def render(self, page: Page) -> Reply:
        number = page.start // self.page_size + 1
        last = max(1, -(-page.total // self.page_size))
        rels = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
        shown = ["prev", "first"] * (number > 1) + ["next", "last"] * page.more
        # GitHub's own links use another path than the request: /repositories/ID.
        url = f"{self.url}/repositories/1300192/issues"
        links = [
            f'<{with_query(url, page.request, page=str(rels[rel]))}>; rel="{rel}"' for rel in shown
        ]
        headers = {
            "X-RateLimit-Limit": "5000",
            "X-RateLimit-Remaining": "4999",
            "X-RateLimit-Reset": "4102444800",
        }
        return answer(
            page.records, headers={**headers, **({"Link": ", ".join(links)} if links else {})}
        )


class Shopify(Service):
    """An opaque `page_info` behind `Link`; a later page takes no parameter but limit."""

    name = "shopify-products"
    origin = "https://acme.myshopify.com"
    path = "/admin/api/2024-01/products.json"
    secrets = {"SHOPIFY_TOKEN": "shopify-token-for-tests"}
    needs = {"x-shopify-access-token": secrets["SHOPIFY_TOKEN"]}
    by_key = True

    def make(self, number: int) -> Record:
        return {
            "id": 6_320_000_000_000 + number,
            "title": f"IPod Nano {number}GB",
            "variants": [{"id": number, "price": "199.00", "inventory_quantity": number}],
            "tags": "Emotive, Flash Memory",
            "image": None,
            "updated_at": "2026-02-01T10:00:00-05:00",
        }

    def token(self, request: Request) -> str | None:
        return query(request).get("page_info")

    def render(self, page: Page) -> Reply:
        asked = query(page.request)
        if "page_info" in asked and set(asked) != {"page_info", "limit"}:
            return answer({"errors": {"page_info": "Invalid value."}}, 400)
        headers = {"X-Shopify-Shop-Api-Call-Limit": "1/40"}
        if page.more:
            limit = asked.get("limit", "50")
            token = self.next_token(page).rstrip("=")
            target = f"{self.url}{self.path}?limit={limit}&page_info={token}"
            headers["Link"] = f'<{target}>; rel="next"'
        return answer({"products": page.records}, headers=headers)

    def position(self, token: str) -> int:
        return super().position(token + "=" * (-len(token) % 4))
