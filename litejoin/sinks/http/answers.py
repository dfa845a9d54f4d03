"""What a receiver's answer makes of a result.

    answer                                          outcome      configurable as
    2xx, complete (or longer than is read)          delivered    responses.delivered
    408, 425, 429, 5xx; a 2xx that is cut           retry        responses.retry
    410                                             stop         responses.stop
    3xx, any other 4xx                              reject       responses.park

An exact code counts before a class such as 4xx. Retry-After is honoured. No I/O.
"""

from email.utils import parsedate_to_datetime

from litejoin.clock import Clock
from litejoin.plan.nodes import HttpSinkPlan
from litejoin.sinks.base import DELIVERED, Outcome, Status

ERROR_CHARS = 200
"""Of the answer's body in an error text."""

GATEWAY_STATUS = frozenset((502, 504))
"""Said by a proxy that lost the receiver: what became of the request is unknown."""

SHORTEST_SECRET = 6
"""Secrets shorter than this are not blanked in error texts: they would blank ordinary words."""


class Judge:
    """Judges the answers to one sink."""

    def __init__(self, plan: HttpSinkPlan, clock: Clock) -> None:
        self._clock = clock
        self._secrets = sorted(_secrets(plan), key=len, reverse=True)
        classes: tuple[tuple[Status, tuple[str, ...]], ...] = (
            ("delivered", plan.responses.delivered),
            ("retry", plan.responses.retry),
            ("stop", plan.responses.stop),
            ("reject", plan.responses.park),
        )
        self._status: dict[str, Status] = {}
        for status, patterns in classes:
            for pattern in patterns:
                self._status.setdefault(pattern.lower(), status)

    def outcome(
        self, code: int, retry_after: bytes | None, answer: bytes, *, complete: bool
    ) -> Outcome:
        """The outcome of an answer whose body began with `answer`."""
        status = self._status_of(code)
        if status == "delivered":
            if complete:
                return DELIVERED
            # Whether the receiver got as far as keeping the result is unknown: send it again.
            return Outcome("retry", f"HTTP {code}, but the answer was cut", uncertain=True)
        if 300 <= code < 400 and status == "reject":
            return Outcome("reject", f"HTTP {code}: redirects are not followed; use the final URL")
        error = f"HTTP {code}: {self._excerpt(answer)}".rstrip(": ")
        wait_s = self._retry_after_s(retry_after) if status == "retry" else None
        return Outcome(status, error, wait_s, uncertain=code in GATEWAY_STATUS)

    def _status_of(self, code: int) -> Status:
        exact = self._status.get(str(code))
        return exact or self._status.get(f"{code // 100}xx", "retry" if code < 300 else "reject")

    def blanked(self, text: str) -> str:
        """A text without the sink's secrets."""
        for value in self._secrets:
            text = text.replace(value, "***")
        return text

    def _excerpt(self, answer: bytes) -> str:
        text = self.blanked(answer[: ERROR_CHARS * 4].decode("utf-8", "replace"))
        return " ".join(text[:ERROR_CHARS].split())

    def _retry_after_s(self, header: bytes | None) -> float | None:
        if header is None:
            return None
        value = header.decode("latin-1")
        if value.strip().isdecimal():
            return float(value)
        try:
            moment = parsedate_to_datetime(value)
            return max(0.0, moment.timestamp() - self._clock.now_ms() / 1000)
        except (ValueError, OverflowError):
            return None


def _secrets(plan: HttpSinkPlan) -> set[str]:
    values = [*plan.headers.values(), *plan.query.values(), *plan.secrets]
    found = {str(value) for value in values}
    # `Bearer abc`: a receiver may repeat the part behind the scheme alone.
    found |= {part for value in values for part in value.split()[1:]}
    return {value for value in found if len(value) >= SHORTEST_SECRET}
