"""What an answer means: records, nothing, try again, give up.

Pure judgement of a status and a body against the config's `response_actions` and `retry`; called
by `exchange`. The first matching action of the config counts before anything built in.
"""

from collections.abc import Sequence
from enum import Enum
from http import HTTPStatus

from litejoin.plan.nodes_api import ActionPlan, RetryPlan
from litejoin.sources.api.throttle import is_refusal
from litejoin.sources.api.transport import Response
from litejoin.sources.api.words import printable, status_text


class Verdict(Enum):
    """What to do with an answer."""

    USE = "use"
    UNCHANGED = "unchanged"
    IGNORE = "ignore"
    RETRY = "retry"
    RENEW = "renew"
    FAIL = "fail"
    STOP = "stop"


class StopSource(Exception):
    """A response action says that the source is not to be polled again."""


ACTIONS = {
    "fail": Verdict.FAIL,
    "ignore": Verdict.IGNORE,
    "retry": Verdict.RETRY,
    "stop": Verdict.STOP,
}


def judge(
    answer: Response, actions: Sequence[ActionPlan], retry: RetryPlan, *, conditional: bool
) -> tuple[Verdict, str]:
    """The verdict and the words for it. `conditional`: the request may be answered by a 304."""
    status = answer.status
    text = status_text(status, answer.headers.get("location"))
    for action in actions:
        if _matches(action, answer):
            if action.contains:
                text += f", the response contains {printable(action.contains)!r}"
            return ACTIONS[action.action], text
    if status == HTTPStatus.NOT_MODIFIED and conditional:
        return Verdict.UNCHANGED, text
    if 200 <= status < 300:
        return _judge_success(status, text)
    if status == HTTPStatus.UNAUTHORIZED:
        return Verdict.RENEW, f"auth failed: {text}"
    if any(fits(pattern, status) for pattern in retry.statuses) or is_refusal(answer):
        return Verdict.RETRY, text
    return Verdict.FAIL, text


def _judge_success(status: int, text: str) -> tuple[Verdict, str]:
    if status == HTTPStatus.NO_CONTENT:
        return Verdict.FAIL, "HTTP 204 No Content where records were expected"
    if status == HTTPStatus.PARTIAL_CONTENT:
        return Verdict.FAIL, "HTTP 206 Partial Content where the whole list was expected"
    return Verdict.USE, text


def fits(pattern: str, status: int) -> bool:
    """`429` or `5xx`."""
    if pattern.endswith("xx"):
        return pattern[:-2] == str(status // 100)
    return pattern == str(status)


def _matches(action: ActionPlan, answer: Response) -> bool:
    if action.status is not None and not fits(action.status, answer.status):
        return False
    return action.contains is None or action.contains.encode() in answer.body
