"""The document: defaults, places, what is left of a config with mistakes, overrides, ignores."""

from copy import deepcopy
from pathlib import Path

import pytest

from litejoin.config import Diagnostic, Document, load_config, read_env_file
from litejoin.config.schema import root_schema
from litejoin.errors import ConfigError
from litejoin.plan.nodes import Place

SHOP = """\
name: shop
sources:
  - {name: push, type: http, topics: [orders], config: {addr: "127.0.0.1:8080"}}
joins:
  - name: j
    query: |
      SELECT key
      FROM orders
    sink: out
sinks:
  - {name: out, type: stdout}
"""


def load(text: str, *, sets: list[str] | None = None, file: str = "shop.yaml") -> Document:
    document, _ = load_config(text, env={}, sets=sets or [], file=file)
    assert document is not None
    return document


def findings(text: str, *, sets: list[str] | None = None) -> list[Diagnostic]:
    return load_config(text, env={}, sets=sets or [], file="shop.yaml")[1]


def test_defaults_are_the_schemas_and_sections_that_are_absent_stay_absent() -> None:
    document = load(SHOP)
    assert document.get("/storage/shard_count") == 8
    assert document.get("/delivery/dlq/max_backoff") == "5m"
    assert document.get("/joins/0/emit") == "changes"
    assert document.get("/retention") is None
    assert load(SHOP + "retention: {clean_interval: 5m}\n").get("/retention/duration") == "24h"
    assert load(SHOP + "retention:\n").get("/retention") is None


def test_defaults_that_depend_on_other_values() -> None:
    document = load(SHOP + "delivery: {guarantee: at_least_once}\nstorage: {data_dir: /d}\n")
    assert document.get("/storage/synchronous") == "full"
    assert document.get("/delivery/dlq/path") == "/d/dlq.db"
    assert load(SHOP).get("/storage/synchronous") == "normal"


@pytest.mark.parametrize(
    ("file", "name"),
    [("a/my shop.v2.yaml", "my-shop.v2"), ("<stdin>", "pipeline"), ("é.yaml", "pipeline")],
)
def test_the_name_is_the_files_stem(file: str, name: str) -> None:
    assert load(SHOP.replace("name: shop\n", ""), file=file).name == name


def test_two_documents_share_no_defaults() -> None:
    first = load(SHOP)
    first.value["sinks"][0]["config"]["changed"] = True
    assert load(SHOP).get("/sinks/0/config") == {}


def test_places() -> None:
    document = load(SHOP)
    assert document.place("/joins/0/query") == Place(6, 12)
    assert document.place_in("/joins/0/query", len("SELECT key\nFROM ")) == Place(8, 12)
    assert document.place("/joins/0/emit") == Place(5, 5), "not written: the join"
    assert document.place("/delivery/dlq/ttl") == Place(1, 1)
    assert document.has("/joins/0/query")
    assert not document.has("/joins/0/emit")
    made = document.finding("LJ212", "/joins/0/query", "no", offset=len("SELECT "), length=3)
    assert (made.line, made.column, made.length, made.level) == (7, 14, 3, "error")
    assert made.pointer == "/joins/0/query"


def test_the_sound_parts_of_a_config_with_mistakes_are_left() -> None:
    text = """\
sources:
  - {name: bad, type: http}
  - {name: push, type: http, config: {addr: ":x"}}
  - {name: good, type: http, config: {addr: "127.0.0.1:8080"}}
storage: {shard_count: many, batch_size: 7, extra: 1}
joins:
  - {name: first, sink: out}
  - {name: second, query: SELECT key FROM orders, sink: out}
sinks: [{name: out, type: stdout}]
"""
    document = load(text)
    assert not document.complete
    assert [source["name"] for source in document.value["sources"]] == ["good"]
    assert [join["name"] for join in document.value["joins"]] == ["second"]
    assert document.value["storage"]["shard_count"] == 8
    assert document.value["storage"]["batch_size"] == 7
    assert "extra" not in document.value["storage"]
    assert document.place("/joins/0/query").line == 8, "the first join was left out"
    assert document.finding("LJ212", "/joins/0/query", "x").pointer == "/joins/1/query"


def test_words_are_texts_where_texts_are_expected_and_booleans_where_booleans_are() -> None:
    text = SHOP.replace("[orders]", "[no, on, null_]") + "replication: {restore_on_boot: no}\n"
    document = load(text)
    assert document.get("/sources/0/topics") == ["no", "on", "null_"]
    assert document.get("/replication/restore_on_boot") is False


def test_merge_keys_and_anchors() -> None:
    text = """\
sources:
  - &push {name: a, type: http, config: {addr: "127.0.0.1:8080"}}
  - {name: b, <<: *push, topics: [x]}
sinks: []
"""
    document, found = load_config(text, env={})
    assert found == []
    assert document is not None
    assert document.get("/sources/1/name") == "b"
    assert document.get("/sources/1/config/addr") == "127.0.0.1:8080"


def test_bom_and_crlf_are_read() -> None:
    document, found = load_config("\ufeff" + SHOP.replace("\n", "\r\n"), env={})
    assert found == []
    assert document is not None
    assert document.get("/joins/0/query") == "SELECT key\nFROM orders\n"


def test_overrides_replace_add_and_reach_items_by_index_and_name() -> None:
    document = load(
        SHOP,
        sets=[
            "storage.shard_count=4",
            "sources[0].config.addr=127.0.0.1:1",
            "joins[j].sink=out",
            "sinks.0.name=out",
            "retention={duration: 1h}",
            "name=",
        ],
    )
    assert document.get("/storage/shard_count") == 4
    assert document.get("/sources/0/config/addr") == "127.0.0.1:1"
    assert document.get("/retention/clean_interval") == "1m"


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("storage.shard_count", "LJ133"),
        ("=4", "LJ133"),
        (".a=4", "LJ133"),
        ("sources[7].name=a", "LJ133"),
        ("sources[nobody].name=a", "LJ133"),
        ("name.a.b=4", "LJ133"),
        ("storage.shards=4", "LJ103"),
        ("storage.shard_count=many", "LJ104"),
        ("storage.shard_count=[", "LJ101"),
        (".".join("a" * 40) + "=4", "LJ122"),
        ("name=${NOBODY}", "LJ130"),
        ("name=\udcff", "LJ120"),
    ],
)
def test_bad_overrides_are_findings_of_the_option(override: str, code: str) -> None:
    found = findings(SHOP, sets=[override])
    assert [f.code for f in found] == [code]
    assert found[0].file.startswith("--set ")


@pytest.mark.parametrize("written", ['"user-events"', "[User-Events]", "`user-events`"])
def test_a_topic_that_a_query_writes_in_quotes_needs_no_warning(written: str) -> None:
    text = SHOP.replace("[orders]", "[user-events]")
    assert [f.code for f in findings(text)] == ["LJ209"]
    assert findings(text.replace("FROM orders", f"FROM {written}")) == []


def test_ignore_comments_hide_warnings_in_their_line_the_next_line_and_blocks() -> None:
    public = SHOP.replace('"127.0.0.1:8080"', '":8080"')
    assert [f.code for f in findings(public)] == ["LJ260"]
    end = public.replace('":8080"}}', '":8080"}}  # litejoin: ignore[LJ260]')
    above = public.replace("  - {name: push", "  # litejoin: ignore[LJ204, LJ260]\n  - {name: push")
    assert findings(end) == []
    assert findings(above) == []
    wrong = public.replace('":8080"}}', '":8080"}}  # litejoin: ignore[LJ204]')
    assert [f.code for f in findings(wrong)] == ["LJ260"]
    block = load(SHOP.replace("query: |", "query: |  # litejoin: ignore[LJ241]"))
    warning = block.finding("LJ241", "/joins/0/query", "full", offset=12, length=1)
    assert warning.line == 8
    assert block.visible([warning]) == []


def test_an_ignored_unknown_key_leaves_the_document_complete() -> None:
    document, found = load_config(SHOP + "extra: 1  # litejoin: ignore[LJ103]\n", env={})
    assert found == []
    assert document is not None
    assert document.complete
    assert "extra" not in document.value


def test_what_run_refuses_is_listed_with_its_place() -> None:
    """No feature is refused in this version: one is marked as if it were."""
    schema = deepcopy(root_schema())
    schema["properties"]["replication"]["x-litejoin"] = {
        "run": False, "off": {"enabled": False}, "feature": "replication"
    }  # fmt: skip

    def unsupported(replication: str) -> dict[str, Place]:
        document = load(SHOP + f"replication: {replication}\n")
        assert document.unsupported() == []
        document._schema = schema
        return {each.feature: each.place for each in document.unsupported()}

    assert unsupported("{enabled: true, replica_url: 's3://b/p'}") == {"replication": Place(12, 14)}
    assert unsupported("{enabled: false}") == {}


def test_env_files(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text(
        '# comment\n\nA=1\nexport B = two words # no\nC=\'$x # y\'\nD="a\\nb\\""\nA=2\nE=\n'
    )
    assert read_env_file(path) == {"A": "2", "B": "two words", "C": "$x # y", "D": 'a\nb"', "E": ""}
    for bad in ("1A=x\n", "no equals\n", "A='open\n", 'A="open\n'):
        path.write_text(bad)
        with pytest.raises(ConfigError, match=r"env:1"):
            read_env_file(path)
    for unreadable in (b"\xff\xfeA=1", b"A" * ((1 << 20) + 1)):
        path.write_bytes(unreadable)
        with pytest.raises(ConfigError):
            read_env_file(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_env_file(tmp_path / "nothing")


def test_an_unreadable_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "nothing.yaml", env={})
    with pytest.raises(ConfigError, match="directory"):
        load_config(tmp_path, env={})
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * ((1 << 20) + 1))
    assert [f.code for f in load_config(large, env={})[1]] == ["LJ121"]


def test_a_file_of_another_kind_gives_a_bounded_number_of_findings() -> None:
    document, found = load_config("".join(f"k{n}: 1\n" for n in range(5_000)), env={})
    assert document is None
    assert len(found) == 1_001
    assert (found[-1].code, found[-1].message) == ("LJ128", "more than 1,000 findings")
