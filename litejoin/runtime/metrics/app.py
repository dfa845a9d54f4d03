"""GET /metrics of every listener, in the text format of Prometheus or of OpenMetrics.

Answered to those with the admin scope when tokens are configured. Figures are gathered on the event
loop; the text is made on a thread, where the client library is imported at the first scrape:
pipelines that nobody scrapes start without it.
"""

import asyncio
from collections.abc import Mapping

from litejoin.runtime.http_answers import Answer, Receive, Scope, Send, send_answer
from litejoin.runtime.metrics.figures import Figures


class MetricsApp:
    """An ASGI application."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        text, kind = await asyncio.to_thread(_text, self._figures.gather(), accept)
        headers = ((b"content-type", kind.encode()), (b"cache-control", b"no-store"))
        await send_answer(send, Answer(200, text, headers))


def _text(tree: Mapping[str, object], accept: str) -> tuple[bytes, str]:
    from litejoin.runtime.metrics.exposition import exposition

    return exposition(tree, accept)
