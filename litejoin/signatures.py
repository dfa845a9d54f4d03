"""Standard Webhooks signatures: how results are signed and how pushed webhooks are checked.

`webhook-signature` holds one `v1,<base64 HMAC-SHA256 of id.timestamp.body>` for each secret,
separated by spaces, so that one secret can take another's place while both are valid. Used by the
http sink and by http sources in webhook mode. Pure: the time comes from the caller.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from collections.abc import Iterable

SECRET_PREFIX = "whsec_"
"""What follows it is base64; a secret without it is taken as it is written."""

TOLERANCE_S = 300
"""A signed request this much older or newer than now is refused: it may be a recorded one."""

VERSION = b"v1,"


def signing_key(secret: str) -> bytes:
    """The key of a secret. Raises ValueError when what follows the prefix is not base64."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:  # binascii.Error, or letters beyond ASCII
        raise ValueError(f"what follows {SECRET_PREFIX} in a secret is not base64") from None


def signature(keys: Iterable[bytes], message_id: bytes, sent_s: bytes, body: bytes) -> bytes:
    """The value of `webhook-signature`; `sent_s` is that of `webhook-timestamp`, Unix seconds."""
    signed = b"%b.%b.%b" % (message_id, sent_s, body)
    return b" ".join(VERSION + base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys)


def is_signed(
    keys: Iterable[bytes], message_id: bytes, sent_s: bytes, body: bytes, signatures: bytes
) -> bool:
    """True when one of `signatures` was made with one of `keys`. Compares in constant time."""
    offered = signatures.split()
    return any(
        hmac.compare_digest(signature((key,), message_id, sent_s, body), each)
        for key in keys
        for each in offered
    )


def is_recent(sent_s: bytes, now_ms: int) -> bool:
    """True when `webhook-timestamp` is a number of seconds within the tolerance of now."""
    if not sent_s.isdigit() or len(sent_s) > 12:
        return False
    return abs(int(sent_s) - now_ms // 1000) <= TOLERANCE_S
