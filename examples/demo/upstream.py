"""A small shop's HTTP API, as the demo's upstream: orders that appear, change and disappear.

    python examples/demo/upstream.py [--port 0] [--seed 7] [--every 0.6]

`GET /orders` answers `{"orders": [...]}`, `GET /stats` how often it was asked and what changed.
The same seed makes the same shop. Ends when its standard input closes, so not after its parent.
"""

import argparse
import json
import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STATUSES = ("pending", "paid", "packed", "shipped")
FIRST_ORDERS = 12
MOST_ORDERS = 40
USERS = 8
"""Orders belong to users u1..u8; nobody here knows their names."""


class Shop:
    """The orders and what happens to them. Thread-safe; one `step` is one change."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._orders: dict[str, dict[str, object]] = {}
        self._next = 1001
        self.stats = {"polls": 0, "created": 0, "updated": 0, "deleted": 0}
        for number in range(FIRST_ORDERS):
            self._create(STATUSES[number % len(STATUSES)])

    def orders(self) -> list[dict[str, object]]:
        with self._lock:
            self.stats["polls"] += 1
            return [dict(order) for order in self._orders.values()]

    def step(self) -> None:
        with self._lock:
            chance = self._random.random()
            if not self._orders or (chance < 0.35 and len(self._orders) < MOST_ORDERS):
                self._create(STATUSES[0])
            else:
                self._advance(self._random.choice(list(self._orders)), chance)

    def _create(self, status: str) -> None:
        name = f"order_{self._next}"
        self._next += 1
        self._orders[name] = {
            "id": name,
            "user_id": f"u{self._random.randint(1, USERS)}",
            "amount": self._random.randint(500, 9900) / 100,
            "status": status,
        }
        self.stats["created"] += 1

    def _advance(self, name: str, chance: float) -> None:
        """The next status; a shipped order leaves the list, and now and then one is cancelled."""
        order = self._orders[name]
        stage = STATUSES.index(str(order["status"]))
        if chance > 0.9 or stage + 1 == len(STATUSES):
            del self._orders[name]
            self.stats["deleted"] += 1
        else:
            order["status"] = STATUSES[stage + 1]
            self.stats["updated"] += 1


def handler(shop: Shop) -> type[BaseHTTPRequestHandler]:
    """The request handler for one shop."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the name is http.server's
            if self.path.split("?")[0] == "/orders":
                self._answer(200, {"orders": shop.orders()})
            elif self.path == "/stats":
                self._answer(200, shop.stats)
            else:
                self._answer(404, {"error": "there are /orders and /stats"})

        def _answer(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """One line a poll would drown the demo."""

    return Handler


def main() -> int:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description="the demo's upstream API")
    parser.add_argument("--port", type=int, default=9180, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--every", type=float, default=0.6, help="seconds between two changes")
    options = parser.parse_args()
    shop = Shop(options.seed)
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler(shop))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    closed = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    while not closed.wait(options.every):
        shop.step()
    return 0


if __name__ == "__main__":
    sys.exit(main())
