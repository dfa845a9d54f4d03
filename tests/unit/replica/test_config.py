"""litestream.yml and the start line: what Litestream is told, and what it is never told."""

from pathlib import Path

import pytest
import yaml

from litejoin.config import load_config
from litejoin.errors import ConfigError
from litejoin.plan.compile import compile_plan
from litejoin.plan.nodes import ReplicationPlan
from litejoin.replica import config as configs
from litejoin.replica.fetch import has_credentials
from litejoin.store.layout import Layout

SHOP = """
sources: [{name: push, type: http, topics: [orders], config: {addr: "127.0.0.1:8080"}}]
joins: [{name: j, query: SELECT key FROM orders, sink: out}]
sinks: [{name: out, type: stdout}]
"""


def planned(replication: str, **env: str) -> ReplicationPlan:
    text = f"{SHOP}replication: {{enabled: true, {replication}}}\n"
    document, findings = load_config(text, env=env, file="shop.yaml")
    assert document is not None, findings
    plan, _ = compile_plan(document)
    assert plan is not None and plan.replication is not None, findings
    return plan.replication


def told(plan: ReplicationPlan, root: Path = Path("/data")) -> dict[str, dict[str, object]]:
    layout = Layout(root)
    files = configs.replicated_files(layout, 2, root / "dlq.db")
    text = configs.litestream_yml(plan, files, configs.socket_path(layout), 5)
    tree = yaml.safe_load(text)
    return {Path(db["path"]).name: db for db in tree["dbs"]} | {"": tree}


@pytest.mark.parametrize(
    ("url", "shard"),
    [
        ("s3://b/p", "s3://b/p/shard-0001.db"),
        ("s3://b/p/", "s3://b/p/shard-0001.db"),
        (
            "s3://b?endpoint=http://localhost:9000&region=x",
            "s3://b/shard-0001.db?endpoint=http://localhost:9000&region=x",
        ),
        ("gs://b/p", "gs://b/p/shard-0001.db"),
        ("gcs://b/p", "gs://b/p/shard-0001.db"),
        ("abs://account@container/p", "abs://account@container/p/shard-0001.db"),
        ("azure://account@container", "abs://account@container/shard-0001.db"),
        ("sftp://user@host/p", "sftp://user@host/p/shard-0001.db"),
        ("file:///mnt/other", "file:///mnt/other/shard-0001.db"),
    ],
)
def test_every_file_has_a_place_of_its_own_below_the_url(url: str, shard: str) -> None:
    dbs = told(planned(f'replica_url: "{url}"'))
    assert dbs["shard-0001.db"]["replica"] == {"url": shard}
    assert set(dbs) == {
        "", "catalogue.db", "shard-0000.db", "shard-0001.db", "state.db", "dlq.db",
    }  # fmt: skip


def test_durations_reach_litestream() -> None:
    tree = told(
        planned('replica_url: "s3://b/p", sync_interval: 2s, snapshot_interval: 30m, retention: 1h')
    )[""]
    assert tree["sync-interval"] == "2000ms"
    assert tree["snapshot"] == {"interval": "1800000ms", "retention": "3600000ms"}
    assert tree["shutdown-sync-timeout"] == "5000ms"


def test_values_of_the_environment_are_left_for_litestream_to_expand(tmp_path: Path) -> None:
    plan = planned(
        'replica_url: "s3://${BUCKET}/${STAGE:-test}/${TEAM:-none}?endpoint=${AT:-x}"',
        BUCKET="secret-bucket", AT="https://key:secret@store",
    )  # fmt: skip
    layout = Layout(tmp_path)
    files = configs.replicated_files(layout, 1, layout.dlq)
    text = configs.litestream_yml(plan, files, None, 5)
    assert "s3://${BUCKET}/test/none/state.db?endpoint=${AT}" in text
    assert "secret" not in text
    assert configs.start_line(plan, configs.config_path(layout)).endswith("litestream.yml")
    configs.write_config(configs.config_path(layout), text)
    assert configs.config_path(layout).stat().st_mode & 0o777 == 0o600


def test_without_variables_a_dollar_is_a_dollar(tmp_path: Path) -> None:
    plan = planned('replica_url: "file:///mnt/$$x"')
    assert told(plan, tmp_path / "$HOME")["state.db"]["path"] == str(tmp_path / "$HOME/state.db")
    assert configs.start_line(plan, Path("/x.yml")).endswith("-no-expand-env")
    with_one = planned('replica_url: "file:///mnt/${X}"', X="y")
    with pytest.raises(ConfigError, match=r"would expand the \$"):
        told(with_one, tmp_path / "$HOME")


def test_a_socket_is_left_out_where_its_path_would_be_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    assert told(planned('replica_url: "s3://b/p"'), deep)[""]["socket"] == {"enabled": False}


@pytest.mark.parametrize(
    ("url", "env", "has"),
    [
        ("s3://b", {}, False),
        ("s3://b", {"AWS_ACCESS_KEY_ID": "x"}, True),
        ("gs://b", {}, False),
        ("gcs://b", {"GOOGLE_APPLICATION_CREDENTIALS": "x"}, True),
        ("azure://b", {}, False),
        ("abs://b", {"LITESTREAM_AZURE_ACCOUNT_KEY": "x"}, True),
        ("file:///x", {}, True),
    ],
)
def test_credentials_are_looked_for_where_clients_look(
    url: str, env: dict[str, str], has: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert has_credentials(url, env) is has
