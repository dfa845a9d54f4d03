"""The live page at / of the admin listener, in a real browser before a real pipeline."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.harness.broker import Broker
from tests.harness.browser import Browser
from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.ports import free_port
from tests.harness.process import Pipeline
from tests.harness.scripted import Upstream, WebhookReceiver
from tests.harness.waiting import eventually

NAMED = (
    "SELECT o.key AS id, o.payload ->> '$.n' AS n, u.payload ->> '$.name' AS name"
    " FROM orders o JOIN users u ON o.payload ->> '$.u' = u.key"
)
WINDOW = {
    "name": "per-day", "type": "tumbling", "topic": "orders", "size": "24h",
    "query": "SELECT count(*) AS n FROM orders", "sink": "out",
}  # fmt: skip
ADMIN, READER = "admin-token-of-this-test", "reader-token-of-this-test"
TOKENS = [
    {"token": ADMIN, "scopes": ["admin", "ingest"]},
    {"token": READER, "scopes": ["subscribe"]},
]
HOSTILE = "<img src=x onerror=hit=1><script>hit=1</script>"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


def started(launch: Launcher, at: Listener, **sections: Any) -> Pipeline:
    config = push_config(
        at, {"named": NAMED}, topics=["orders", "users"], name="shop", windows=[WINDOW], **sections
    )
    return launch(config, at.health)


def failing_sink(at: Listener) -> list[dict[str, Any]]:
    """Nobody listens where `hook` sends."""
    hook = http_sink(f"http://127.0.0.1:{free_port()}/")
    return [sse_sink(at), {**hook, "guarantee": "at_least_once"}]


def send(at: Listener, *rows: Any, token: str | None = None) -> None:
    with IngestClient(at.url, token=token) as client:
        client.send(list(rows))


def shows(browser: Browser, selector: str, wanted: str) -> None:
    def check() -> bool:
        text = browser.text(selector)
        assert wanted in text, f"{selector}: {text!r}"
        return True

    eventually(check, 20.0)


def fact(node: str, name: str) -> str:
    return f'[data-node="{node}"] [data-fact="{name}"]'


def watch(browser: Browser, node: str) -> None:
    """Choose what is shown live, with the keyboard; returns when the server has begun."""
    shows(browser, f'[data-node="{node}"] button', node.partition(":")[2])
    browser.run(f"document.querySelector('[data-node=\"{node}\"] button').focus()")
    browser.press("Enter")
    shows(browser, "#watching", "watching")


def log_in(browser: Browser, token: str) -> None:
    eventually(lambda: browser.run("document.activeElement.id") == "token")
    browser.type(token)
    browser.press("Enter")


def test_it_shows_the_pipeline_its_figures_and_live_results(
    launch: Launcher, browser: Browser
) -> None:
    at = Listener()
    started(launch, at, sinks=failing_sink(at))
    browser.open(f"{at.url}/")
    shows(browser, "#status", "ok")
    shows(browser, "#name", "shop")
    shows(browser, "#reasons", "Nothing to report.")
    shows(browser, '[data-node="source:in"]', "to orders, users")
    shows(browser, '[data-node="topic:users"]', "from in")
    shows(browser, '[data-node="join:named"]', "from orders, users")
    shows(browser, '[data-node="window:per-day"]', "from orders")
    shows(browser, '[data-node="sink:hook"]', "from named")
    # in -> 2 topics, orders -> 2, users -> 1, named -> 2 sinks, per-day -> 1
    assert browser.run("document.querySelectorAll('#flow path').length") == 8
    watch(browser, "join:named")
    top = browser.run("document.getElementById('lines').offsetTop")
    orders = [message("orders", f"o{i}", {"u": "u1", "n": i}) for i in range(3)]
    send(at, message("users", "u1", {"name": "Ann"}), *orders)
    shows(browser, fact("source:in", "rows"), "4")
    shows(browser, fact("join:named", "results"), "3")
    shows(browser, fact("sink:hook", "dead letters"), "3,")
    shows(browser, fact("sink:hook", "last success"), "never")
    shows(browser, '[data-total="dead letters"]', "3")
    shows(browser, "#status", "degraded")
    shows(browser, "#reasons", "sink hook: ")
    shows(browser, '[data-node="sink:hook"] .note', "Connection refused")
    shows(browser, "#lines", '[{"id":"o2","n":2,"name":"Ann"}]')
    rates = ["[data-total='rows in/s']", fact("source:in", "per second")]
    eventually(lambda: all(browser.text(rate)[:1].isdigit() for rate in rates), 20.0)
    assert browser.run("document.getElementById('lines').offsetTop") == top, "nothing jumps"
    assert browser.faults == []
    assert {request["url"].split("?")[0] for request in browser.requests} == {
        f"{at.url}/{path}" for path in ("", "health", "plan", "tap")
    }


def test_every_figure_of_every_kind_of_part_is_known(
    launch: Launcher, browser: Browser, upstream: Upstream, receiver: WebhookReceiver
) -> None:
    """A field of /health by another name would be shown as unknown, for ever."""
    at = Listener()
    broker = Broker()
    try:
        broker.create("events")
        upstream.serve([{"id": "a"}, {"id": "b"}])
        launch(config_of_all_kinds(at, broker, upstream.url, receiver.url), at.health)
        broker.produce("events", [("e1", "{}")])
        send(at, message("users", "u1", {}), message("orders", "o1", {"u": "u1"}))
        browser.open(f"{at.url}/")
        shows(browser, fact("source:feed", "records"), "2")
        shows(browser, fact("source:bus", "messages"), "1")
        shows(browser, fact("sink:hook", "delivered"), "1")
        shows(browser, '[data-node="join:days"]', "from per-day")
        shows(browser, fact("sink:also", "clients"), "with out")
        eventually(lambda: unknown(browser) == set(), 20.0)
        assert browser.faults == []
    finally:
        broker.stop()


def config_of_all_kinds(at: Listener, broker: Broker, api: str, hook: str) -> dict[str, Any]:
    sinks = [sse_sink(at), sse_sink(at, "also"), http_sink(hook)]
    joins = {"named": NAMED, "days": 'SELECT n AS id FROM "per-day"'}
    config = push_config(at, joins, topics=["orders", "users"], windows=[WINDOW], sinks=sinks)
    settings: dict[str, Any] = {"brokers": broker.brokers, "group_id": "page"}
    # This broker lets a new member wait for half its session timeout.
    settings["options"] = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 200}
    feed = {"url": f"{api}/items", "interval": "1s", "key_path": "id"}
    config["sources"] += [
        {"name": "feed", "type": "api", "topic": "items", "api": feed},
        {"name": "bus", "type": "kafka", "topics": ["events"], "config": settings},
    ]
    return config


def unknown(browser: Browser) -> set[str]:
    """Figures that are shown as unknown, but for those that `out` shows for `also`."""
    script = (
        "[...document.querySelectorAll('dd')].filter((it) => it.textContent.includes('–')).map("
        "(it) => it.dataset.total ?? it.closest('.card').dataset.node + ' ' + it.dataset.fact)"
    )
    return {name for name in browser.run(script) if not name.startswith("sink:also ")}


def test_what_strangers_send_is_shown_as_text_and_runs_nothing(
    launch: Launcher, browser: Browser
) -> None:
    at = Listener()
    started(launch, at)
    browser.open(f"{at.url}/")
    watch(browser, "topic:users")
    send(at, message("users", HOSTILE, {"name": HOSTILE, "big": 2**70}))
    shows(browser, "#lines .key", HOSTILE)
    shows(browser, "#lines", f'"name": "{HOSTILE}", "big": {2**70}')
    watch(browser, "join:named")
    send(at, message("orders", "o1", {"u": HOSTILE}))
    shows(browser, "#lines", f'"name":"{HOSTILE}"')
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("document.querySelectorAll('script').length") == 1
    assert browser.run("typeof hit") == "undefined"
    assert browser.faults == []
    # Were there a way in, the browser would refuse it.
    attack = (
        f"try {{ document.body.innerHTML = {json.dumps(HOSTILE)}; 'done' }} catch (e) {{ e.name }}"
    )
    assert browser.run(attack) == "TypeError"
    elsewhere = f"fetch('http://127.0.0.1:{free_port()}/').then(() => 'asked', (e) => e.name)"
    assert browser.run(elsewhere) == "TypeError"
    eventually(lambda: browser.run("1") and "connect-src" in " ".join(browser.faults))
    assert browser.run("typeof hit") == "undefined"


def test_it_asks_for_the_token_and_keeps_it_to_itself(launch: Launcher, browser: Browser) -> None:
    at = Listener()
    started(launch, at, server={"auth": {"tokens": TOKENS}})
    send(at, message("users", "u1", {"name": "Ann"}), token=ADMIN)
    browser.open(f"{at.url}/")
    shows(browser, "#login", "asks for a token with the scope admin")
    shows(browser, "#status", "ok")
    assert browser.text("main") == ""
    log_in(browser, "no-token-of-this-test")
    shows(browser, "#problem", "unknown bearer token")
    log_in(browser, READER)
    shows(browser, "#problem", 'does not have the scope "admin"')
    assert browser.text("main") == ""
    log_in(browser, ADMIN)
    shows(browser, fact("source:in", "rows"), "1")
    assert browser.text("#login") == ""
    watch(browser, "topic:users")
    send(at, message("users", "u2", {"name": "Bea"}), token=ADMIN)
    shows(browser, "#lines", '"name": "Bea"')
    kept = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
    assert browser.run(kept) == [0, 0, "", f"{at.url}/"]
    assert not [each["url"] for each in browser.requests if "of-this-test" in each["url"]]
    assert f"Bearer {ADMIN}" in {each["headers"].get("Authorization") for each in browser.requests}
    assert ADMIN not in browser.run("document.documentElement.outerHTML")
    assert browser.faults == []
    browser.open(f"{at.url}/?again")
    shows(browser, "#login", "asks for a token")


def test_a_pipeline_that_is_killed_is_gone_and_comes_back(
    launch: Launcher, browser: Browser
) -> None:
    at = Listener()
    pipeline = started(launch, at)
    send(at, message("users", "u1", {"name": "Ann"}))
    browser.open(f"{at.url}/")
    watch(browser, "topic:users")
    shows(browser, fact("source:in", "rows"), "1")
    pipeline.kill()
    shows(browser, "#status", "gone")
    shows(browser, "#said", "No answer since ")
    shows(browser, "#said", "Next try in ")
    assert browser.text(fact("source:in", "rows")) == "1", "what was last known stays"
    pipeline.start()
    browser.run("document.getElementById('retry').focus()")
    browser.press(" ")
    shows(browser, "#status", "ok")
    shows(browser, "#said", "Answered at ")
    shows(browser, fact("source:in", "rows"), "0")
    shows(browser, "#watching", "watching")
    send(at, message("users", "u2", {"name": "Bea"}))
    shows(browser, "#lines", '"name": "Bea"')
    assert browser.faults == []


def test_another_config_after_a_restart_is_another_graph(
    launch: Launcher, browser: Browser
) -> None:
    at = Listener()
    pipeline = started(launch, at)
    browser.open(f"{at.url}/")
    shows(browser, '[data-node="join:named"]', "named")
    pipeline.kill()
    text = pipeline.file.read_text()
    pipeline.file.write_text(text.replace("name: named", "name: renamed"))
    pipeline.start()
    shows(browser, '[data-node="join:renamed"]', "renamed")
    assert browser.text('[data-node="join:named"]') == ""
    assert browser.faults == []


def test_the_newest_lines_are_kept_and_can_be_stopped(launch: Launcher, browser: Browser) -> None:
    at = Listener()
    started(launch, at)
    browser.open(f"{at.url}/")
    watch(browser, "topic:users")
    for first in range(0, 500, 50):
        send(at, *(message("users", f"u{i}", {"i": i}) for i in range(first, first + 50)))
    shows(browser, "#watching", "500 lines")
    count = "document.querySelectorAll('#lines li').length"
    eventually(lambda: browser.run(count) == 200)
    shows(browser, "#lines", '"i": 499')
    browser.run("document.getElementById('pause').focus()")
    browser.press(" ")
    shows(browser, "#watching", "paused")
    before = browser.text("#lines")
    send(at, message("users", "late", {"i": "x" * 5000}))
    shows(browser, "#watching", "paused, 1 since")
    assert browser.text("#lines") == before
    browser.press(" ")
    shows(browser, "#lines li", "late")
    shows(browser, "#lines li", "… (5,009 characters)")
    assert browser.run(count) == 200
    assert browser.faults == []


def test_the_way_of_a_part_stays_marked(launch: Launcher, browser: Browser) -> None:
    at = Listener()
    started(launch, at)
    browser.open(f"{at.url}/")
    shows(browser, fact("source:in", "rows"), "0")
    browser.run("document.querySelector('[data-node=\"topic:users\"] button').focus()")
    marked = "[...document.querySelectorAll('.card.on')].map((card) => card.dataset.node)"
    way = ["source:in", "topic:users", "join:named", "sink:out"]
    assert browser.run(marked) == way
    assert browser.run("document.querySelectorAll('path.on').length") == 3
    send(at, message("users", "u1", {"name": "Ann"}))
    shows(browser, fact("source:in", "rows"), "1")
    assert browser.run(marked) == way


def test_it_fits_small_screens_and_both_colour_schemes(launch: Launcher, browser: Browser) -> None:
    at = Listener()
    started(launch, at, sinks=failing_sink(at))
    send(at, message("users", "u1", {"name": "N" * 500}), message("orders", "o1", {"u": "u1"}))
    browser.open(f"{at.url}/")
    shows(browser, '[data-node="sink:hook"] .note', "Connection refused")
    for width in (340, 700, 1400):
        browser.resize(width)
        assert browser.run("document.documentElement.scrollWidth") <= width
    colours = []
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        colours.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(244, 246, 248)", "rgb(14, 19, 25)"]


def test_the_page_is_the_same_with_and_without_tokens(launch: Launcher) -> None:
    answers = []
    for server in ({}, {"auth": {"tokens": TOKENS}}):
        at = Listener()
        started(launch, at, server=server)
        answers.append(urllib3.request("GET", f"{at.url}/"))
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].data == answers[1].data
    assert "content-security-policy" in answers[0].headers
