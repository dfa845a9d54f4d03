"""Takes secrets out of what a recording keeps: by value where we know it, else by the field's name.

The same request is always redacted to the same text, so that a recorded one can be found again.
Never parses a body as a whole: what is not a secret keeps its bytes.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

STAND_IN = "***"

MIN_SECRET_CHARS = 6
"""Shorter values ("on", "100") are found all over a body and would only spoil it."""

FIELDS = frozenset(
    {
        "access_token", "refresh_token", "id_token", "client_secret", "client_assertion",
        "password", "passwd", "secret", "api_key", "apikey", "session_token", "private_key",
        "signature", "sig",
    }
)  # fmt: skip
"""Names of JSON members, form fields and query parameters. Not `token` or `page_token`: page tokens
are called so, and without them a walk cannot be played back.
"""

_SECRET_HEADER = re.compile(r"auth|cookie|token|secret|api-?key|password|session|signature", re.I)
_NOT_SECRET = re.compile(r"^(?:www|proxy)-authenticate$", re.I)


class Redactor:
    """What to take out of one recording."""

    def __init__(self, secrets: Iterable[str] = (), fields: Iterable[str] = ()) -> None:
        """`secrets`: values to hide wherever they stand; `fields`: more names of fields."""
        names = "|".join(re.escape(name) for name in sorted(FIELDS | set(fields)))
        self._member = re.compile(rb'("(?:%s)"\s*:\s*)"(?:[^"\\]|\\.)*"' % names.encode())
        self._number = re.compile(rb'("(?:%s)"\s*:\s*)-?[0-9][-+.0-9eE]*' % names.encode())
        self._parameter = re.compile(rf"(^|[?&])((?:{names})=)[^&#]*")
        self._values: set[str] = set()
        for secret in secrets:
            self._learn(secret)

    def _learn(self, secret: str) -> None:
        if len(secret) < MIN_SECRET_CHARS or secret.replace(".", "").isdigit():
            return
        self._values |= {secret, quote(secret, safe=""), quote_plus(secret)}
        self._values.add(secret.replace("\\", "\\\\").replace('"', '\\"'))

    def text(self, text: str) -> str:
        """A text without the known secrets."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, STAND_IN)
        return text

    def url(self, url: str) -> str:
        """A URL without secret parameters."""
        return self._parameter.sub(rf"\1\2{STAND_IN}", self.text(url))

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers without the values of those that carry credentials."""
        return {name: self._header(name, value) for name, value in headers.items()}

    def _header(self, name: str, value: str) -> str:
        secret = _SECRET_HEADER.search(name) and not _NOT_SECRET.match(name)
        return STAND_IN if secret else self.url(value)

    def body(self, body: bytes) -> bytes:
        """A JSON body or form without secret fields; everything else byte for byte."""
        body = self._member.sub(rb'\1"%s"' % STAND_IN.encode(), body)
        body = self._number.sub(rb"\g<1>0", body)
        for value in sorted(self._values, key=len, reverse=True):
            body = body.replace(value.encode(), STAND_IN.encode())
        if body[:1] in (b"{", b"[") or b"=" not in body[:200]:
            return body
        try:
            return self._parameter.sub(rf"\1\2{STAND_IN}", body.decode()).encode()
        except UnicodeDecodeError:
            return body
