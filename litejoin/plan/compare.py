"""What changes when a plan takes the place of another one, or starts over a data directory.

Called by `litejoin plan --diff` and `--diff-data-dir`. Compares values only: who reads the data
directory hands it in as `Deployed`. What a change leads to is in `effects`; the page and the JSON
form are made in `explain_changes`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol

from litejoin.frozen import dataclass
from litejoin.plan.effects import effects_of, silenced
from litejoin.plan.fields import FieldChange, changed_fields
from litejoin.plan.nodes import (
    ApiSourcePlan,
    Deployed,
    JoinPlan,
    Plan,
    ReplicationPlan,
    TopicPlan,
    WindowPlan,
)
from litejoin.plan.units import count_text

Kind = Literal["added", "removed", "changed"]


class Named(Protocol):
    """A part of a plan that is known by its name."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Change:
    """One part that is added, removed or changed, and what that leads to at the next start."""

    part: str
    name: str
    kind: Kind
    fields: tuple[FieldChange, ...]
    effects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why `run` would not start, and what to do."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of it. `joins`, `indexes` and `shards` are what the next start builds anew."""

    against: str
    changes: tuple[Change, ...]
    joins: tuple[str, ...]
    indexes: tuple[str, ...]
    shards: tuple[str, ...]
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """True when a start would not just go on where the last one ended."""
        return bool(self.changes or self.joins or self.shards or self.refused)


PARTS = ("sources", "topics", "joins", "windows", "sinks")
BLOCKS = ("storage", "delivery", "server")
REBUILDING = {"query", "expanded", "columns", "key_column", "json_columns"}
"""Fields of a join that its stored results depend on: `JoinPlan.definition`."""


def compare_plans(before: Plan, after: Plan) -> Comparison:
    """What changes when `after` is run where `before` ran."""
    changes = [*_named(before, after)]
    for part in PARTS:
        changes += _compared(part.removesuffix("s"), getattr(before, part), getattr(after, part))
    if not changes and before.config_hash != after.config_hash:
        changes.append(Change("config", after.name, "changed", (), ("nothing that `run` reads",)))
    moved = before.storage.data_dir != after.storage.data_dir
    return Comparison(
        against=f"{before.file}, config {before.config_hash}",
        changes=_quieted(changes, after),
        joins=tuple(j.name for j in after.joins) if moved else tuple(_rebuilt_joins(changes)),
        indexes=tuple(_new_maps(before.topics, after.topics)),
        shards=tuple(_time_indexes(_timed(before), after)),
        refused=(*_resharded(before, after), *_unsupported(after)),
    )


def compare_deployed(deployed: Deployed, after: Plan) -> Comparison:
    """What changes when a plan is started over a data directory."""
    changes = [
        *_presence("source", deployed.sources, [s.name for s in after.sources if s.type == "api"]),
        *_refilled(deployed.filled, after),
        *_presence("topic", _still_fed(deployed, after), [t.name for t in after.topics]),
        *_redefined("join", _of_windows(deployed.joins, False), after.joins),
        *_redefined("window", _of_windows(deployed.joins, True), after.windows),
    ]
    if deployed.sinks is not None:
        changes += _sink_changes(deployed.sinks, deployed.with_results, after)
    fresh = tuple(replace(t, indexes=()) for t in after.topics)
    return Comparison(
        against=deployed.text,
        changes=_quieted(changes, after),
        joins=tuple(_rebuilt_joins(changes)),
        indexes=tuple(_new_maps(fresh, after.topics)),
        shards=_changed_shards(deployed, after),
        refused=_unsupported(after),
        notes=deployed.notes,
    )


def _refilled(filled: Mapping[str, Sequence[str]], after: Plan) -> Iterator[Change]:
    """Api sources that were never polled for the topic that they have now."""
    for source in after.sources:
        topics = filled.get(source.name, ())
        if isinstance(source, ApiSourcePlan) and topics and source.topic not in topics:
            fields = (FieldChange("topic", ", ".join(topics), source.topic),)
            effects = effects_of("source", "changed", fields)
            yield Change("source", source.name, "changed", fields, effects)


def _still_fed(deployed: Deployed, after: Plan) -> Iterable[str]:
    """Stored topics; without those that a plan whose sources take any topic feeds unnamed."""
    takes_any = any(
        (source.type == "http" and not source.topics)
        or (source.type == "kafka" and any(name.startswith("^") for name in source.kafka_topics))
        for source in after.sources
    )
    named = {topic.name.lower() for topic in after.topics}
    return [name for name in deployed.topics if not takes_any or name.lower() in named]


def refused(message: str, hint: str, against: str) -> Comparison:
    """A data directory that this plan cannot use at all."""
    return Comparison(against, (), (), (), (), (Refusal(message, hint),))


def _named(before: Plan, after: Plan) -> Iterator[Change]:
    """The pipeline itself and the blocks that have no name."""
    if before.name != after.name:
        renamed = (FieldChange("name", before.name, after.name),)
        effects = effects_of("pipeline", "changed", renamed)
        yield Change("pipeline", after.name, "changed", renamed, effects)
    for block in BLOCKS:
        fields = changed_fields(getattr(before, block), getattr(after, block))
        if fields:
            yield Change(block, "", "changed", fields, effects_of(block, "changed", fields))
    yield from _replication(before.replication, after.replication)


def _replication(before: ReplicationPlan | None, after: ReplicationPlan | None) -> Iterator[Change]:
    if before == after:
        return
    kind: Kind = "changed" if before and after else "added" if after else "removed"
    fields = changed_fields(before, after) if kind == "changed" else ()
    yield Change("replication", "", kind, fields, effects_of("replication", kind, fields))


def _compared(part: str, before: Sequence[Named], after: Sequence[Named]) -> Iterator[Change]:
    old = {each.name.lower(): each for each in before}
    new = {each.name.lower(): each for each in after}
    yield from _presence(part, [e.name for e in before], [e.name for e in after])
    for name, each in new.items():
        if name in old:
            fields = changed_fields(old[name], each)
            if fields:
                effects = effects_of(part, "changed", fields)
                yield Change(part, each.name, "changed", fields, effects)


def _presence(part: str, before: Iterable[str], after: Iterable[str]) -> Iterator[Change]:
    """What is in one list of names only; names differ by more than case."""
    old = {name.lower(): name for name in before}
    new = {name.lower(): name for name in after}
    for key, name in new.items():
        if key not in old:
            yield Change(part, name, "added", (), effects_of(part, "added", ()))
    for key, name in old.items():
        if key not in new:
            yield Change(part, name, "removed", (), effects_of(part, "removed", ()))


def _quieted(changes: Iterable[Change], after: Plan) -> tuple[Change, ...]:
    """The changes; of joins that are computed anew without telling anybody, with that effect."""
    silent = {join.name for join in after.joins if join.on_change == "silent"}
    return tuple(
        replace(each, effects=silenced(each.effects))
        if each.part == "join" and each.name in silent
        else each
        for each in changes
    )


WINDOW_DEFINITION = re.compile(r'\["(tumbling|sliding|session)"')
LATE_DEFINITION = "late"
"""What stands for the late messages of a window, which are results of their own."""


def _of_windows(joins: Mapping[str, str], wanted: bool) -> dict[str, str]:
    return {
        name: definition
        for name, definition in joins.items()
        if bool(WINDOW_DEFINITION.match(definition)) is wanted and definition != LATE_DEFINITION
    }


def _redefined(
    part: str, before: Mapping[str, str], after: Sequence[JoinPlan] | Sequence[WindowPlan]
) -> Iterator[Change]:
    """Joins or windows that come, go, or whose stored state was made otherwise."""
    yield from _presence(part, before, [each.name for each in after])
    name = "query or columns" if part == "join" else "spans"
    fields = (FieldChange(name, None, None),)
    for each in after:
        if before.get(each.name, each.definition) != each.definition:
            effects = effects_of(part, "changed", fields)
            yield Change(part, each.name, "changed", fields, effects)


def _rebuilt_joins(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        if change.part == "join" and change.kind == "added":
            yield change.name
        elif change.part == "join" and change.kind == "changed":
            names = {field.name for field in change.fields}
            if names & REBUILDING or "query or columns" in names:
                yield change.name


def _new_maps(before: Iterable[TopicPlan], after: Iterable[TopicPlan]) -> Iterator[str]:
    """Key maps that are not there yet, as `topic.path (join, ...)`."""
    known = {(t.name.lower(), i.expression, i.is_text) for t in before for i in t.indexes}
    for topic in after:
        for index in topic.indexes:
            if (topic.name.lower(), index.expression, index.is_text) not in known:
                yield f"{topic.name}.{index.path} ({', '.join(index.used_by)})"


def _timed(plan: Plan) -> frozenset[str]:
    return frozenset(topic.name.lower() for topic in plan.topics if topic.retention_ms)


def _time_indexes(before: frozenset[str], after: Plan) -> Iterator[str]:
    """Indexes on the timestamp that the shards' files gain or lose: retention needs them."""
    now = _timed(after)
    names = {topic.name.lower(): topic.name for topic in after.topics}
    for key in sorted(names.keys() & (now ^ before)):
        yield f"{'make' if key in now else 'drop'} the time index of {names[key]}"


def _changed_shards(deployed: Deployed, after: Plan) -> tuple[str, ...]:
    count = count_text(after.storage.shard_count, "shard")
    if deployed.is_new:
        return (f"create {count} in {after.storage.data_dir}",)
    known = {topic.lower() for topic in deployed.topics}
    of_known = replace(after, topics=tuple(t for t in after.topics if t.name.lower() in known))
    return tuple(f"{line} in {count}" for line in _time_indexes(deployed.timed_topics, of_known))


def _sink_changes(
    known: tuple[str, ...], with_results: frozenset[str], after: Plan
) -> Iterator[Change]:
    """Sinks that lost their joins, and those that will be sent results they have not seen.

    SSE clients keep a position of their own. A sink gets a cursor with its first result, so one
    without is new only where there are results for it.
    """
    fed: dict[str, bool] = {}
    feeding = [(part.name, part.sinks) for part in after.joins]
    feeding += [(part.name, part.sinks) for part in after.windows]
    for part, sinks in feeding:
        for name in sinks:
            fed[name.lower()] = fed.get(name.lower(), False) or part in with_results
    kept = [s.name for s in after.sinks if s.type != "sse" and s.name.lower() in fed]
    old = {name.lower() for name in known}
    for change in _presence("sink", known, kept):
        if change.name.lower() in old or fed[change.name.lower()]:
            yield change


def _resharded(before: Plan, after: Plan) -> tuple[Refusal, ...]:
    old, new = before.storage, after.storage
    if old.shard_count == new.shard_count or old.data_dir != new.data_dir:
        return ()
    message = f"data_dir {new.data_dir} was made with shard_count {old.shard_count},"
    message += f" not {new.shard_count}"
    hint = f"set storage.shard_count: {old.shard_count}, or use a new data_dir"
    return (Refusal(message, hint),)


def _unsupported(plan: Plan) -> tuple[Refusal, ...]:
    return tuple(
        Refusal(
            f"not supported yet: {each.feature}",
            f"{plan.file}:{each.place.line}:{each.place.column}",
        )
        for each in plan.unsupported
    )
