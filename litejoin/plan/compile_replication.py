"""Compiles `replication`. Called by `compile`."""

from litejoin.plan.nodes import ReplicationPlan
from litejoin.plan.redact import shown_url
from litejoin.plan.section import Section


def compile_replication(replication: Section) -> ReplicationPlan | None:
    """The plan; None when replication is off."""
    if not replication.flag("enabled"):
        return None
    url, expands = replication.document.with_variables(replication.at("replica_url"))
    return ReplicationPlan(
        mode=replication.value["mode"],
        written_url=url,
        expands=expands,
        shown_url=shown_url(url.partition("?")[0]),
        sync_interval_ms=replication.duration_ms("sync_interval"),
        restore_on_boot=replication.flag("restore_on_boot"),
        snapshot_interval_ms=replication.duration_ms("snapshot_interval"),
        retention_ms=replication.duration_ms("retention"),
    )
