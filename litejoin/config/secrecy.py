"""Which names hold secrets by custom, and where a URL holds one.

Used to warn of secrets in clear and to keep them out of messages about the values around them.
"""

import re
from urllib.parse import parse_qsl, urlsplit

MIN_SECRET = 6
"""Shorter texts in secret fields are no secrets worth a warning ("none", "json")."""

SECRET_NAME = re.compile(
    r"authorization|(^|[_-])(token|secret|password|passwd|pwd|cookie|api[_-]?key|app[_-]?id"
    r"|access[_-]?key|signature)s?$|apikey|appid$",
    re.IGNORECASE,
)
"""Names of headers and parameters."""

_USER_INFO = re.compile(r"://[^/?#]*@")
_PARAMETER = re.compile(r"([?&;])([^=&;#]*)=([^&;#]*)")


def secret_in_url(text: str) -> str | None:
    """What in a URL is secret by its name: a password or a parameter."""
    try:
        parts = urlsplit(text)
        if parts.password:
            return "a password in the URL"
        for name, value in parse_qsl(parts.query):
            if SECRET_NAME.search(name) and len(value) >= MIN_SECRET:
                return f'the parameter "{name}"'
    except ValueError:
        return None  # reported as a bad URL already
    return None


def masked_url(text: str) -> str:
    """The text with user info and secret parameters masked; it need not be a valid URL."""
    return _PARAMETER.sub(_masked_parameter, _USER_INFO.sub("://***@", text))


def _masked_parameter(match: re.Match[str]) -> str:
    value = "***" if SECRET_NAME.search(match[2]) else match[3]
    return f"{match[1]}{match[2]}={value}"
