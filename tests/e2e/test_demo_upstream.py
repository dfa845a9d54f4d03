"""The demo's upstream API: one seed, one shop; all three kinds of change; no orphan."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from upstream import Shop
shop = Shop(int(sys.argv[2]))
for _ in range(300):
    shop.step()
print(json.dumps([shop.orders(), shop.stats]))
"""


def shop(seed: int) -> list[object]:
    command = [sys.executable, "-c", SCRIPT, str(DEMO), str(seed)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    state: list[object] = json.loads(out)
    return state


def test_a_seed_makes_a_shop() -> None:
    assert shop(7) == shop(7) != shop(8)


def test_orders_appear_change_and_disappear() -> None:
    orders, stats = shop(7)
    assert isinstance(stats, dict)
    assert min(stats["created"], stats["updated"], stats["deleted"]) >= 30
    assert isinstance(orders, list)
    assert stats["created"] - stats["deleted"] == len(orders)


def test_it_answers_over_http_and_ends_with_its_standard_input() -> None:
    command = [sys.executable, str(DEMO / "upstream.py"), "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        with urllib.request.urlopen(f"{url}/orders", timeout=10) as answer:
            assert json.load(answer)["orders"][0]["id"].startswith("order_")
        process.communicate(timeout=10)
        assert process.returncode == 0
