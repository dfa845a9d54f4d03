"""What a change of the config leads to at the next start.

Used by `compare`. Each text is a promise about `run`: the end-to-end tests of config changes hold
it.
"""

from collections.abc import Sequence

from litejoin.plan.fields import FieldChange

AT_START = "takes effect at the next start"

_ADDED = {
    "source": "starts with its first poll or message",
    "topic": "a table in every shard",
    "join": "computed once from the stored topics; every result is delivered",
    "window": "starts with what is open then: spans that ended are not made up for, and one that"
    " is open lacks the messages that no other window holds",
    "sink": "is sent every current result, and what else the results log still holds",
    "replication": "everything is copied once, then what changes",
}
_REMOVED = {
    "source": "the rows it wrote stay in their topic",
    "topic": "its rows stay on disk, unread",
    "join": "its results are dropped; no deletes are sent",
    "window": "its open windows are dropped; nothing is sent",
    "sink": "gets nothing more; its dead letters stay until dlq.ttl",
    "replication": "what the replica has stays there, and grows old",
}
_REEVALUATED = "computed once from the stored topics; what differs from its results is delivered"
_SILENT = {
    _ADDED["join"]: "computed once from the stored topics; its results are recorded, not delivered",
    _REEVALUATED: "computed once from the stored topics; what differs is recorded, not delivered",
}
"""The same with `on_change: silent`."""
_OTHER_SPANS = "its windows are others: it starts anew, what was open is dropped"
_SPAN_FIELDS = (
    "type", "topic", "size", "slide", "gap", "offset", "timezone", "time_path", "time_format",
    "partition_by", "spans",
)  # fmt: skip
"""Fields that `WindowPlan.definition` is made of."""

_CHANGED = {
    **{("window", name): _OTHER_SPANS for name in _SPAN_FIELDS},
    ("window", "query"): "holds for the windows that fire from then on",
    ("source", "topic"): "its next poll fills the new topic; the rows that it wrote stay in the one"
    " before",
    ("source", "key_path"): "every record gets a new key; rows under the old keys stay unless"
    " detect_deletes is set",
    ("source", "change_detection"): "the next poll compares by content again",
    ("topic", "retention"): "rows that are older expire after the start",
    ("topic", "indexes"): "key maps are built in memory from the stored rows at the start",
    ("join", "query"): _REEVALUATED,
    ("join", "expanded"): _REEVALUATED,
    ("join", "columns"): _REEVALUATED,
    ("join", "key_column"): _REEVALUATED,
    ("join", "json_columns"): _REEVALUATED,
    ("join", "query or columns"): _REEVALUATED,
    ("join", "on_change"): "holds for the next change of the join itself",
    ("join", "sinks"): "later results go there; nothing is sent again",
    ("sink", "url"): "pending results and dead letters go to the new address",
    (
        "storage",
        "data_dir",
    ): "starts from what the other directory holds, empty if it is new; ids of results differ",
    ("storage", "shard_count"): "a data directory keeps the number it was made with",
    (
        "storage",
        "archive",
    ): "rows that expire are moved to files while it is on, deleted while it is off",
    ("replication", "replica_url"): "everything is copied once to the new place; the old one stays",
    ("pipeline", "name"): "ids of results change: receivers take what comes later for new",
}


def effects_of(part: str, kind: str, fields: Sequence[FieldChange]) -> tuple[str, ...]:
    """What follows from a change, each effect once."""
    if kind == "added":
        return (_ADDED[part],)
    if kind == "removed":
        return (_REMOVED[part],)
    known = (_CHANGED.get((part, field.name)) for field in fields)
    return tuple(dict.fromkeys(text or AT_START for text in known))


def silenced(effects: Sequence[str]) -> tuple[str, ...]:
    """The effects of a change of a join with `on_change: silent`."""
    return tuple(_SILENT.get(text, text) for text in effects)
