"""GET / of the admin listener: the live page, one HTML file that shows a running pipeline.

Served to everyone, because it holds no data: what it shows it asks for at /health, /plan and /tap,
with the token that its user types in. Names, errors and payloads that it shows come from strangers,
and it stands where pushes are taken: its Content-Security-Policy lets nothing run but its own
script, named by hash, and lets that talk to this listener only.
"""

import base64
import hashlib
import re
from importlib import resources

from litejoin.runtime.http_answers import Answer, Headers, Receive, Scope, Send, send_answer


class PageApp:
    """An ASGI application. The file is read for the first request: nobody may ever ask."""

    def __init__(self) -> None:
        self._answer: Answer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._answer is None:
            text = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
            self._answer = Answer(200, text.encode(), page_headers(text))
        await send_answer(send, self._answer)


def page_headers(page: str) -> Headers:
    """The headers of an HTML page with one script and one style element."""
    policy = (
        "default-src 'none'",
        f"script-src {_hash_of('script', page)}",
        f"style-src {_hash_of('style', page)}",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Text that is assigned to innerHTML and the like is an error, wherever it comes from.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", "; ".join(policy).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
    )


def _hash_of(element: str, page: str) -> str:
    """What a policy calls the inline element: the hash of the bytes between its tags."""
    (text,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
