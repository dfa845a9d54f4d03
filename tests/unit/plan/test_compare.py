"""What a comparison of plans tells: every change, its effect, what is built anew and refused."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from litejoin.config.schema import PLAN_DIFF_FILE, schema_text
from litejoin.plan.compare import Change, Comparison, compare_deployed, compare_plans, refused
from litejoin.plan.effects import effects_of
from litejoin.plan.explain_changes import explain_changes
from litejoin.plan.fields import DERIVED, FieldChange, changed_fields
from litejoin.plan.layout import PAGE_WIDTH
from litejoin.plan.nodes import Deployed, JoinPlan, Plan, Secret, Unsupported
from tests.unit.plan.documents import plan_of
from tests.unit.plan.plans import HEADER_SECRET, ORDERS_API, shop_plan

CONFIG = """
name: shop
storage: {shard_count: 8}
sources:
  - {name: api, type: api, topic: users, api: {url: "http://h/u?token=first-secret", interval: 30s,
     key_path: id}}
  - {name: push, type: http, topics: [orders], config: {addr: "127.0.0.1:8080"}}
joins:
  - {name: named, sink: hook, query: "SELECT o.key, u.payload ->> '$.name' AS n FROM orders o
     JOIN users u ON o.payload ->> '$.u' = u.key"}
  - {name: all, sink: live, query: SELECT key FROM orders}
sinks:
  - {name: hook, type: http, config: {url: "http://localhost:9/x", headers: {X-Key: key-secret}}}
  - {name: live, type: sse, config: {addr: "127.0.0.1:9100"}}
"""

SCHEMA = json.loads(schema_text(PLAN_DIFF_FILE))


def compared(*edits: tuple[str, str]) -> Comparison:
    text = CONFIG
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return compare_plans(plan_of(CONFIG), plan_of(text))


def only(comparison: Comparison) -> Change:
    (change,) = comparison.changes
    return change


def fields(change: Change) -> dict[str, tuple[str | None, str | None]]:
    return {field.name: (field.before, field.after) for field in change.fields}


def test_a_plan_does_not_differ_from_itself() -> None:
    found = compared()
    assert not found.differs
    assert (found.changes, found.joins, found.indexes, found.shards, found.refused) == ((),) * 5


def test_another_layout_of_the_text_changes_nothing() -> None:
    assert not compared(("\njoins:", "\n\n# joins\njoins:")).differs


def test_a_changed_interval_is_told_and_builds_nothing() -> None:
    found = compared(("interval: 30s", "interval: 1m"))
    assert fields(only(found)) == {"interval": ("30s", "1m")}
    assert only(found).effects == ("takes effect at the next start",)
    assert (found.joins, found.indexes, found.shards) == ((), (), ())


def test_a_changed_query_is_computed_anew_with_the_key_map_it_needs() -> None:
    found = compared(("$.u'", "$.uid'"))
    changes = {(change.part, change.name): change for change in found.changes}
    assert set(changes) == {("topic", "orders"), ("join", "named")}
    assert set(fields(changes["join", "named"])) == {"query"}
    assert found.joins == ("named",)
    assert found.indexes == ("orders.$.uid (named)",)


def test_joins_come_and_go() -> None:
    found = compared(("name: all", "name: every"))
    assert [(c.kind, c.name) for c in found.changes] == [("added", "every"), ("removed", "all")]
    assert found.joins == ("every",)


def test_another_sink_of_a_join_builds_nothing() -> None:
    found = compared(("name: all, sink: live", "name: all, sink: hook"))
    assert fields(only(found)) == {"sinks": ("live", "hook")}
    assert found.joins == ()


def test_retention_changes_the_files_of_the_shards() -> None:
    found = compared(("storage:", "retention: {duration: 1h}\nstorage:"))
    assert {c.name: fields(c) for c in found.changes} == {
        "users": {"retention": ("for good", "1h")},
        "orders": {"retention": ("for good", "1h")},
    }
    assert found.shards == ("make the time index of orders", "make the time index of users")


def test_another_shard_count_is_refused() -> None:
    found = compared(("shard_count: 8", "shard_count: 4"))
    (refusal,) = found.refused
    assert refusal.message == "data_dir data was made with shard_count 8, not 4"
    assert refusal.hint == "set storage.shard_count: 8, or use a new data_dir"


def test_another_data_dir_computes_every_join() -> None:
    found = compared(("shard_count: 8", "shard_count: 4, data_dir: elsewhere"))
    assert found.refused == ()
    assert found.joins == ("named", "all")


def test_a_new_name_changes_the_ids_of_results() -> None:
    found = compared(("name: shop", "name: store"))
    (pipeline,) = (change for change in found.changes if change.part == "pipeline")
    assert "ids of results change" in pipeline.effects[0]


def test_secrets_are_said_to_differ_and_not_shown() -> None:
    found = compared(("first-secret", "second-secret"), ("key-secret", "other-secret"))
    assert [(c.part, c.name) for c in found.changes] == [("source", "api"), ("sink", "hook")]
    for form in ("text", "json"):
        shown = explain_changes(found, plan_of(CONFIG), form)
        assert "-secret" not in shown
    assert "url changed in a secret" in explain_changes(found, plan_of(CONFIG), "text")


def test_what_run_does_not_support_is_refused() -> None:
    plan = shop_plan()
    assert isinstance(plan.unsupported[0], Unsupported)
    (refusal,) = compare_plans(plan, plan).refused
    assert (refusal.message, refusal.hint) == ("not supported yet: windows", "shop.yaml:40:3")


def test_a_setting_that_nothing_reads_is_still_a_change() -> None:
    plan = shop_plan()
    found = compare_plans(plan, replace(plan, config_hash="0" * 12))
    assert only(found).part == "config"


CHANGES: dict[type, Callable[[Any], Any]] = {
    str: lambda value: value + "x",
    Secret: lambda value: Secret(value + "x"),
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: value + 1,
    tuple: lambda value: (*value, *(value[:1] or ("x",))),
    dict: lambda value: {**value, "x": "x"},
}


@pytest.mark.parametrize(
    "part",
    [*shop_plan().sources, *shop_plan().sinks, *shop_plan().windows, shop_plan().delivery.dlq],
    ids=lambda part: type(part).__name__,
)
def test_no_field_can_change_unseen(part: Any) -> None:
    """Every field of every kind of part, but those that follow from others."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        change = CHANGES.get(type(value))
        if field.name in DERIVED or field.name == "shown_url" or change is None:
            continue
        assert changed_fields(part, replace(part, **{field.name: change(value)})), field.name


@pytest.mark.parametrize("part", ["source", "topic", "join", "window", "sink"])
def test_every_coming_and_going_has_an_effect(part: str) -> None:
    assert effects_of(part, "added", ())[0]
    assert effects_of(part, "removed", ())[0]


# -- against a data directory


def deployed(plan: Plan, **changes: Any) -> Deployed:
    """What the directory tells after `plan` ran on it."""
    state = Deployed(
        text="data, 8 shards",
        topics=tuple(topic.name for topic in plan.topics),
        timed_topics=frozenset(),
        sources=("api",),
        joins={join.name: join.definition for join in plan.joins},
        sinks=("hook",),
        with_results=frozenset(join.name for join in plan.joins),
    )
    return replace(state, **changes)


def test_a_plan_goes_on_where_it_ended() -> None:
    plan = plan_of(CONFIG)
    found = compare_deployed(deployed(plan), plan)
    assert not found.differs
    assert found.indexes == ("orders.$.u (named)",)  # in memory, at every start


def test_a_join_whose_results_were_made_otherwise_is_computed_anew() -> None:
    plan = plan_of(CONFIG)
    other: JoinPlan = replace(plan.joins[0], query="SELECT 1")
    found = compare_deployed(deployed(replace(plan, joins=(other, plan.joins[1]))), plan)
    assert (only(found).name, only(found).kind, found.joins) == ("named", "changed", ("named",))


@pytest.mark.parametrize(
    ("filled", "before"),
    [({}, None), ({"api": ("users",)}, None), ({"api": ("a", "users")}, None),
     ({"api": ("a", "b")}, "a, b")],
)  # fmt: skip
def test_a_source_that_never_filled_its_topic_will(
    filled: dict[str, tuple[str, ...]], before: str | None
) -> None:
    plan = plan_of(CONFIG)
    found = compare_deployed(deployed(plan, filled=filled), plan)
    assert found.differs is bool(before)
    for change in found.changes:
        assert (change.part, change.name, change.kind) == ("source", "api", "changed")
        assert change.fields == (FieldChange("topic", before, "users"),)
        assert "its next poll fills the new topic" in change.effects[0]


def test_a_directory_with_other_parts_tells_which_come_and_go() -> None:
    plan = plan_of(CONFIG)
    old = deployed(plan, topics=("orders", "gone"), sources=(), joins={"left": "[]"}, sinks=("s",))
    found = compare_deployed(old, plan)
    assert {(c.kind, c.part, c.name) for c in found.changes} == {
        ("added", "source", "api"), ("added", "topic", "users"), ("removed", "topic", "gone"),
        ("added", "join", "named"), ("added", "join", "all"), ("removed", "join", "left"),
        ("added", "sink", "hook"), ("removed", "sink", "s"),
    }  # fmt: skip


def test_topics_that_a_source_of_any_topic_made_are_not_gone() -> None:
    plan = plan_of(CONFIG.replace("topics: [orders], ", ""))
    made = deployed(plan, topics=("users", "orders", "made.by.a.push"))
    assert not compare_deployed(made, plan).differs


def test_a_window_whose_spans_are_others_starts_anew() -> None:
    plan = shop_plan()
    (window,) = plan.windows
    parts = {part.name: part.definition for part in (*plan.joins, window)}
    state = deployed(plan, joins=parts | {"per-hour.late": "late"}, sources=("orders-api",))
    assert not compare_deployed(replace(state, sinks=None), plan).changes
    wider = replace(plan, windows=(replace(window, size_ms=7_200_000),))
    change = only(compare_deployed(replace(state, sinks=None), wider))
    assert (change.part, change.kind, change.name) == ("window", "changed", "per-hour")
    assert "starts anew" in change.effects[0]


def test_every_part_of_a_windows_definition_is_told_to_make_it_start_anew() -> None:
    (window,) = shop_plan().windows
    for field in dataclasses.fields(window):
        value = getattr(window, field.name)
        change = CHANGES.get(type(value), lambda _: "x")
        other = replace(window, **{field.name: change(value)})
        if other.definition != window.definition:
            effects = effects_of("window", "changed", changed_fields(window, other))
            assert "starts anew" in effects[0], field.name


def test_a_sink_that_never_had_a_result_is_not_new() -> None:
    plan = plan_of(CONFIG)
    assert not compare_deployed(deployed(plan, sinks=(), with_results=frozenset()), plan).differs


def test_a_time_index_too_many_is_dropped() -> None:
    plan = plan_of(CONFIG)
    found = compare_deployed(deployed(plan, timed_topics=frozenset({"orders"})), plan)
    assert found.shards == ("drop the time index of orders in 8 shards",)


def test_a_new_directory_is_created() -> None:
    plan = plan_of(CONFIG)
    new = deployed(plan, is_new=True, topics=(), sources=(), joins={}, sinks=None)
    assert compare_deployed(new, plan).shards == ("create 8 shards in data",)


# -- the forms


def everything() -> Comparison:
    after = replace(
        shop_plan(),
        name="store",
        sources=(replace(ORDERS_API, interval_ms=1000, headers={"A": Secret("new-secret")}),),
        joins=shop_plan().joins[:1],
    )
    found = compare_plans(shop_plan(), after)
    return replace(found, notes=("a note " * 30,))


def test_the_page_fits_and_hides_secrets() -> None:
    page = explain_changes(everything(), shop_plan(), "text")
    assert max(map(len, page.splitlines())) <= PAGE_WIDTH
    assert "new-secret" not in page
    assert HEADER_SECRET not in page


@pytest.mark.parametrize(
    "comparison",
    [everything(), compared(), refused("no", "do this", "data")],
    ids=["everything", "nothing", "refused"],
)
def test_the_json_form_fits_its_schema(comparison: Comparison) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    tree = json.loads(explain_changes(comparison, shop_plan(), "json"))
    Draft202012Validator(SCHEMA).validate(tree)


PAGE = """\
shop   config {hash}   against shop.yaml, config {before}

Changes
  ~ source api
      url changed in a secret
      interval 30s -> 1m
      => takes effect at the next start
  ~ topic orders
      indexes $.u -> $.uid
      => key maps are built in memory from the stored rows at the start
  + join every
      => computed once from the stored topics; every result is delivered
  - join all
      => its results are dropped; no deletes are sent
  ~ join named
      query changed
      => computed once from the stored topics; what differs from its results is delivered

Built at the next start
  joins     every, named
  indexes   orders.$.uid (named)
  shards    no file is changed

1 added, 1 removed, 3 changed
"""


def test_the_page_reads_from_what_changes_to_what_it_costs() -> None:
    text = CONFIG.replace("first-", "next-").replace("30s", "1m").replace("$.u'", "$.uid'")
    before, after = plan_of(CONFIG), plan_of(text.replace("name: all", "name: every"))
    page = explain_changes(compare_plans(before, after), after, "text")
    wanted = PAGE.format(hash=after.config_hash, before=before.config_hash)
    assert page.split("query SELECT")[0] == wanted.split("query SELECT")[0]


def test_a_silent_join_is_said_to_deliver_nothing() -> None:
    silent = ("name: all, sink: live", "name: all, on_change: silent, sink: live")
    plan = plan_of(CONFIG.replace(*silent))
    other = replace(plan.joins[1], query="SELECT key FROM users WHERE 1")
    found = compare_deployed(deployed(replace(plan, joins=(plan.joins[0], other))), plan)
    assert only(found).effects[0].endswith("what differs is recorded, not delivered")
    found = compare_deployed(deployed(replace(plan, joins=plan.joins[:1])), plan)
    assert only(found).effects[0].endswith("its results are recorded, not delivered")


REPLICATION = (
    "replication: {enabled: true, mode: embedded, replica_url: 's3://one/shop?k=url-secret'}"
)
ARCHIVE = "archive: {enabled: true}"


def test_replication_is_compared_and_its_url_shows_no_secret() -> None:
    started = compared(("name: shop", f"name: shop\n{REPLICATION}"))
    assert (only(started).kind, only(started).part) == ("added", "replication")
    assert "copied once" in only(started).effects[0]
    before = plan_of(f"{REPLICATION}\n{CONFIG}")
    ended = compare_plans(before, plan_of(CONFIG))
    assert (only(ended).kind, only(ended).part) == ("removed", "replication")
    text = f"{REPLICATION}\n{CONFIG}".replace("//one", "//two").replace("url-secret", "new-secret")
    moved = compare_plans(before, plan_of(text))
    assert fields(only(moved)) == {"replica_url": ("s3://one/shop", "s3://two/shop")}
    assert only(moved).effects == ("everything is copied once to the new place; the old one stays",)
    for form in ("text", "json"):
        assert "-secret" not in explain_changes(moved, plan_of(text), form)


def test_an_archive_that_is_switched_on_or_off_says_what_becomes_of_old_rows() -> None:
    found = compared(("shard_count: 8", f"shard_count: 8, {ARCHIVE}"))
    assert fields(only(found)) == {"archive": ("off", "on")}
    assert "moved to files while it is on" in only(found).effects[0]
    on = plan_of(CONFIG.replace("shard_count: 8", f"shard_count: 8, {ARCHIVE}"))
    cloud = ARCHIVE.replace("true", "true, cloud: {enabled: true, bucket: cold}")
    copied = plan_of(CONFIG.replace("shard_count: 8", f"shard_count: 8, {cloud}"))
    assert fields(only(compare_plans(on, copied))) == {"archive.cloud": ("off", "on")}
