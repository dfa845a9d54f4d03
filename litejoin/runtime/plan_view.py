"""GET /plan: the plan that this process runs, as `litejoin plan --format json` prints it.

Answered by the admin listener to those with the admin scope. Secrets are masked where the text is
made.
"""

from collections.abc import Callable

from litejoin.runtime.http_answers import JSON_TYPE, Answer, Receive, Scope, Send, send_answer


class PlanApp:
    """An ASGI application. `make` is called for the first request: nobody may ever ask."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._body: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._body is None:
            self._body = self._make().encode()
        await send_answer(send, Answer(200, self._body, (JSON_TYPE,)))
