"""Session windows: messages of a partition that are no further apart than the gap.

    window_sessions   join_id, partition, start_ms, last_ms, fired, dirty, keys
    window_dropped    join_id, time_ms, n         messages in the buffer that came too late,
                                                  or that a closed session has counted

A session is [first message, last message + gap). A message at most `gap` away extends it; one that
is that near to two sessions makes them one. `keys` are the keys of the results that were sent for
it (JSON; NULL: none yet): a session that was sent and then starts earlier takes its old results
back, since a result is known by its key and the start of its span.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from litejoin.engine.windows.query import Value
from litejoin.engine.windows.spans import Span
from litejoin.engine.windows.window import (
    MAX_FIRINGS,
    Context,
    Progress,
    Results,
    column_of,
    placed,
    update_keep_ms,
)
from litejoin.plan.nodes import WindowPlan

SCHEMA = """
CREATE TABLE IF NOT EXISTS window_sessions(
  id INTEGER PRIMARY KEY, join_id INTEGER NOT NULL, partition, start_ms INTEGER NOT NULL,
  last_ms INTEGER NOT NULL, fired INTEGER NOT NULL, dirty INTEGER NOT NULL, keys TEXT);
CREATE TABLE IF NOT EXISTS window_dropped(
  join_id INTEGER NOT NULL, time_ms INTEGER NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY(join_id, time_ms, n)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS window_sessions_near ON window_sessions(join_id, partition, last_ms);
CREATE INDEX IF NOT EXISTS window_sessions_first ON window_sessions(join_id, start_ms);
CREATE INDEX IF NOT EXISTS window_sessions_due ON window_sessions(join_id, fired, last_ms);
"""


@dataclass(frozen=True, slots=True)
class Session:
    """A row of window_sessions."""

    id: int
    partition: Value
    start_ms: int
    last_ms: int
    fired: bool
    keys: str | None


class SessionWindow:
    """See `Window`."""

    def __init__(self, plan: WindowPlan, context: Context) -> None:
        self.plan, self.late = plan, 0
        self.results = Results(plan, context)
        self._context = context
        self._gap_ms = plan.gap_ms or 1
        self._keep_ms = update_keep_ms(plan)
        self._column = column_of(plan) or "NULL"
        self._progress = Progress(context.db, context.join_id)

    # -- messages

    def take(self, oldest_ms: int) -> None:
        self._progress.keep()
        islands = self._context.db.execute(
            f"""SELECT partition, min(t), max(t), count(*) FROM (
                SELECT partition, t, sum(apart) OVER (PARTITION BY partition ORDER BY t
                                                      ROWS UNBOUNDED PRECEDING) AS island FROM (
                    SELECT {self._column} AS partition, time_ms AS t,
                        coalesce(time_ms - lag(time_ms) OVER (
                            PARTITION BY {self._column} ORDER BY time_ms) > ?, 0) AS apart
                    FROM {self._context.buffer.fresh} WHERE {placed(self._column)}))
                GROUP BY partition, island ORDER BY 2""",
            (self._gap_ms,),
        ).fetchall()
        for partition, first_ms, last_ms, count in islands:
            self._merge(partition, int(str(first_ms)), int(str(last_ms)), int(str(count)))

    def _merge(self, partition: Value, first_ms: int, last_ms: int, count: int) -> None:
        near = self._near(partition, first_ms, last_ms)
        closed_ms = self._progress.closed_ms
        is_late = last_ms + self._gap_ms <= closed_ms and all(s.fired for s in near)
        if is_late:
            self.late += count
            self.results.put_late(
                f"time_ms BETWEEN ? AND ? AND {self._column} IS ?", (first_ms, last_ms, partition)
            )
            if last_ms + self._gap_ms <= closed_ms - self._keep_ms:
                self._drop(partition, first_ms, last_ms)
                return
        start_ms = min([first_ms, *(s.start_ms for s in near)])
        last_ms = max([last_ms, *(s.last_ms for s in near)])
        kept = next((s for s in near if s.start_ms == start_ms), None)
        for session in near:
            if session is not kept:
                self._take_back(session)
        self._store(kept, partition, start_ms, last_ms)

    def _drop(self, partition: Value, first_ms: int, last_ms: int) -> None:
        """Keep late messages out of a session that starts before them one day, for an even
        earlier message: the buffer may hold them for other windows.
        """
        fresh = self._context.buffer.fresh
        self._context.db.execute(
            f"INSERT INTO window_dropped SELECT ?, time_ms, n FROM {fresh}"
            f" WHERE time_ms BETWEEN ? AND ? AND {self._column} IS ?",
            (self._context.join_id, first_ms, last_ms, partition),
        )

    def _near(self, partition: Value, first_ms: int, last_ms: int) -> list[Session]:
        """The sessions that messages from first to last belong to."""
        rows = self._context.db.execute(
            "SELECT id, partition, start_ms, last_ms, fired, keys FROM window_sessions"
            " WHERE join_id = ?1 AND partition IS ?2 AND last_ms >= ?3 AND start_ms <= ?4"
            " AND (NOT fired OR last_ms > ?5)",
            (
                self._context.join_id, partition, first_ms - self._gap_ms, last_ms + self._gap_ms,
                # Closed sessions are taken up again with `on_late: update` only.
                self._progress.closed_ms - self._gap_ms - self._keep_ms
                if self._keep_ms else 2**62,
            ),
        ).fetchall()  # fmt: skip
        return [_session(row) for row in rows]

    def _take_back(self, session: Session) -> None:
        """Remove a session that has become part of another; delete what was sent of it."""
        self._context.db.execute("DELETE FROM window_sessions WHERE id = ?", (session.id,))
        span = Span(session.start_ms, session.last_ms + self._gap_ms)
        for key in json.loads(session.keys or "[]"):
            self._context.writer.delete(self._context.join_id, span, key)

    def _store(self, kept: Session | None, partition: Value, start_ms: int, last_ms: int) -> None:
        db = self._context.db
        if kept is not None:
            db.execute(
                "UPDATE window_sessions SET last_ms = ?, fired = 0, dirty = 1 WHERE id = ?",
                (last_ms, kept.id),
            )
        else:
            db.execute(
                "INSERT INTO window_sessions(join_id, partition, start_ms, last_ms, fired, dirty)"
                " VALUES(?, ?, ?, ?, 0, 1)",
                (self._context.join_id, partition, start_ms, last_ms),
            )

    def needs_from(self) -> int:
        cut_ms = self._progress.closed_ms - self._gap_ms - self._keep_ms
        row = self._context.db.execute(
            "SELECT min(start_ms) FROM window_sessions WHERE join_id = ?", (self._context.join_id,)
        ).fetchone()
        if row is None or row[0] is None:
            return cut_ms
        return min(cut_ms, int(str(row[0])) - self._gap_ms)

    # -- results

    def fire(self, watermark_ms: int) -> bool:
        due = self._select(
            "fired = 0 AND last_ms <= ? ORDER BY last_ms", (watermark_ms - self._gap_ms,)
        )
        for session in due:
            self._emit(session, fired=True)
            self._use_up(session)
        more = len(due) == MAX_FIRINGS
        if due:
            self._progress.store(due[-1].last_ms + self._gap_ms)
            self._context.writer.forget_oldest(self._context.join_id)
        if self.plan.emit == "update" and not more:
            for session in self._select("fired = 0 AND dirty = 1", ()):
                self._emit(session, fired=False)
        if not more:
            self._progress.closed_ms = max(self._progress.closed_ms, watermark_ms)
        if due:
            self._progress.keep()
            self._forget()
        return more

    def _use_up(self, session: Session) -> None:
        """Count a closed session's messages once: an out-of-order message may move the start of
        the next session back before the end of this one.
        """
        if not self._keep_ms:
            self._context.db.execute(
                "INSERT OR IGNORE INTO window_dropped SELECT ?, time_ms, n"
                f" FROM {self._context.buffer.table}"
                f" WHERE time_ms BETWEEN ? AND ? AND {self._column} IS ?",
                (self._context.join_id, session.start_ms, session.last_ms, session.partition),
            )

    def _select(self, condition: str, bindings: Sequence[int]) -> list[Session]:
        rows = self._context.db.execute(
            "SELECT id, partition, start_ms, last_ms, fired, keys FROM window_sessions"
            f" WHERE join_id = ? AND {condition} LIMIT ?",
            (self._context.join_id, *bindings, MAX_FIRINGS),
        ).fetchall()
        return [_session(row) for row in rows]

    def _emit(self, session: Session, *, fired: bool) -> None:
        span = Span(session.start_ms, session.last_ms + self._gap_ms)
        before = json.loads(session.keys or "[]")
        only_changed = bool(before) and self.plan.emit == "update"
        keys = self.results.emit(
            span,
            lambda: self._context.query.rows(span, session.partition),
            session.partition,
            only_changed=only_changed,
            before=before,
        )
        self._context.db.execute(
            "UPDATE window_sessions SET fired = ?, dirty = 0, keys = ? WHERE id = ?",
            (int(fired), json.dumps(keys), session.id),
        )

    def committed(self) -> None:
        self._progress.committed()

    def rolled_back(self) -> None:
        self._progress.rolled_back()
        self._context.query.rolled_back()

    def trim(self) -> None:
        before = self._context.db.total_changes()
        self._forget()
        self._context.query.forget(self.needs_from())
        if self._context.db.total_changes() > before:
            self.keep_progress()

    def keep_progress(self) -> None:
        self._progress.keep()

    def health(self) -> dict[str, object]:
        return {}

    def close(self) -> None:
        pass

    def _forget(self) -> None:
        """Drop closed sessions that no late message can reach any more."""
        self._context.db.execute(
            "DELETE FROM window_dropped WHERE join_id = ? AND time_ms < ?",
            (self._context.join_id, self.needs_from()),
        )
        self._context.db.execute(
            "DELETE FROM window_sessions WHERE join_id = ? AND fired = 1 AND last_ms <= ?",
            (self._context.join_id, self._progress.closed_ms - self._gap_ms - self._keep_ms),
        )


def _session(row: tuple[Value, ...]) -> Session:
    number, partition, start_ms, last_ms, fired, keys = row
    return Session(
        int(str(number)), partition, int(str(start_ms)), int(str(last_ms)), bool(fired),
        None if keys is None else str(keys),
    )  # fmt: skip
