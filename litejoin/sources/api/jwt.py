"""Signs JSON Web Tokens (RFC 7515 compact form). HS* here, all others with `cryptography`.

Used by `auth` only. Pure computation; the key never leaves in an error.
"""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

from litejoin.errors import PollError

HASHES = {"256": "sha256", "384": "sha384", "512": "sha512"}
INSTALL = "tokens that are not HS* need the package cryptography: pip install 'litejoin[jwt]'"

OTHER_KIND = "auth failed: the key is of another kind than {} needs"


def sign(header: Mapping[str, Any], claims: Mapping[str, Any], key: str, algorithm: str) -> str:
    """The token. Raises PollError for a key that does not fit the algorithm."""
    head = {"typ": "JWT", **header, "alg": algorithm}
    text = f"{_part(head)}.{_part(claims)}".encode()
    if algorithm.startswith("HS"):
        signature = hmac.new(key.encode(), text, HASHES[algorithm[2:]]).digest()
    else:
        signature = _sign_with_key(text, key, algorithm)
    return f"{text.decode()}.{_encoded(signature)}"


def _sign_with_key(text: bytes, key: str, algorithm: str) -> bytes:
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    except ImportError:
        raise PollError(f"auth failed: {INSTALL}") from None
    kinds: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]]
    kinds = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
    try:
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError):
        raise PollError("auth failed: the key is not a private key in PEM form") from None
    if algorithm == "EdDSA" and isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(text)
    if algorithm == "EdDSA":
        raise PollError(OTHER_KIND.format(algorithm))
    digest = kinds[algorithm[2:]]()
    if algorithm.startswith("RS") and isinstance(private, rsa.RSAPrivateKey):
        return private.sign(text, padding.PKCS1v15(), digest)
    if algorithm.startswith("PS") and isinstance(private, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(digest), salt_length=padding.PSS.DIGEST_LENGTH)
        return private.sign(text, pss, digest)
    if algorithm.startswith("ES") and isinstance(private, ec.EllipticCurvePrivateKey):
        size = (private.key_size + 7) // 8
        r, s = decode_dss_signature(private.sign(text, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    raise PollError(OTHER_KIND.format(algorithm))


def _part(values: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(dict(values), separators=(",", ":")).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
