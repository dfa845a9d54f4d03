"""Requests per minute, per source and per shared budget."""

from dataclasses import replace

import pytest

from litejoin.plan.explain import explain
from litejoin.plan.nodes import HttpSourcePlan, Plan
from litejoin.plan.requests import budgets, requests_of
from tests.unit.plan.documents import plan_of
from tests.unit.plan.plans import ORDERS_API, shop_plan

USERS_API = replace(
    ORDERS_API,
    name="users-api",
    shown_url="https://me:***@API.example.com/users",
    interval_ms=60_000,
    min_pages=2,
    max_pages=2,
    allowed_per_minute=30.0,
)


def test_requests_are_pages_per_poll_over_the_interval() -> None:
    asked = requests_of(ORDERS_API)
    assert (asked.least, asked.most, asked.allowed) == (2.0, 10.0, 60.0)
    assert asked.share == pytest.approx(1 / 30)


def test_without_a_limit_there_is_no_share() -> None:
    assert requests_of(replace(ORDERS_API, allowed_per_minute=None)).share is None


def test_the_shortest_interval_of_an_adaptive_source_bounds_its_requests() -> None:
    asked = requests_of(replace(ORDERS_API, fastest_interval_ms=10_000))
    assert (asked.least, asked.most) == (2.0, 30.0)


def test_sources_of_one_host_share_a_budget_and_its_strictest_limit() -> None:
    pushes = [each for each in shop_plan().sources if isinstance(each, HttpSourcePlan)]
    (budget,) = budgets([ORDERS_API, *pushes, USERS_API])
    assert budget.name == "api.example.com"
    assert budget.sources == ("orders-api", "users-api")
    assert (budget.least, budget.most, budget.allowed) == (4.0, 12.0, 30.0)
    assert budget.share == pytest.approx(4 / 30)


def test_a_group_is_a_budget_of_its_own_whatever_the_hosts() -> None:
    elsewhere = replace(USERS_API, shown_url="https://other.example.com/", rate_group="crm")
    grouped = replace(ORDERS_API, rate_group="crm")
    assert [b.name for b in budgets([grouped, elsewhere])] == ["crm"]
    assert [b.name for b in budgets([ORDERS_API, elsewhere])] == ["api.example.com", "crm"]


def test_a_walk_for_each_record_has_no_upper_bound() -> None:
    lines = replace(USERS_API, name="lines", parent_topic="orders")
    (budget,) = budgets([ORDERS_API, lines])
    assert (budget.least, budget.most, budget.per_record_of) == (4.0, None, ("orders",))


CONFIG = """
sources:
  - {name: orders, type: api, topic: orders, api: {url: "http://h/orders", interval: 10s,
     key_path: id, rate_limit: {requests_per_minute: 60}}}
  - {name: lines, type: api, topic: lines, api: {url: "http://h/orders/{id}/lines", interval: 1m,
     key_path: id, for_each: {topic: orders, path: id, param: id}}}
  - {name: users, type: api, topic: users, api: {url: "http://h/users", interval: 30s,
     key_path: id, adaptive: {min_interval: 5s, max_interval: 1m}}}
joins: [{name: j, query: SELECT key FROM orders, sink: out}]
sinks: [{name: out, type: stdout}]
"""


def test_the_page_shows_what_the_sources_of_a_host_ask_for_together() -> None:
    page = explain(plan_of(CONFIG), "text")
    assert "every 10s, 1 page  ->  6 requests/min of 60 allowed (10 %)" in page
    assert "every 1m, 1 page  ->  1 request/min for each record of orders" in page
    assert "every 30s, 1 page  ->  2 to 12 requests/min" in page
    shared = "h, 3 sources  ->  9 requests/min of 60 allowed (15 %) or more: one record of orders"
    assert f"  {shared} is counted\n" in page


def test_the_page_is_silent_about_a_budget_of_one() -> None:
    plan: Plan = replace(shop_plan(), sources=(ORDERS_API,))
    assert explain(plan, "text").count("api.example.com") == 1
