"""Readers of the config's scalar notations: durations, sizes, addresses, URLs, gjson paths.

Each turns a text into a value or raises ValueError with a message that says what is wrong with it
and how it is written. Used for the schema's formats and by the plan compiler. Knows no positions.
"""

import re
from datetime import datetime
from urllib.parse import urlsplit

from litejoin._ext.gjson_compile import compile_ops
from litejoin.errors import PathError
from litejoin.plan.nodes import Address

NS_PER_MS = 1_000_000
_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"\+?(?:{_DURATION_PART.pattern})+")
_MAX_DURATION_NS = (1 << 63) - 1
"""Go's limit, about 292 years."""
_MAX_TEXT = 256
"""Longer texts are no durations, sizes or addresses; int() of thousands of digits is slow."""

_SIZE = re.compile(r"([0-9]+)\s*(B|KB|KiB|K|MB|MiB|M|GB|GiB|G|TB|TiB|T)?", re.IGNORECASE)
_SIZE_POWER = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_MAX_SIZE_BYTES = (1 << 63) - 1

_HOST_LABELS = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")
_URL_BAD = re.compile(r"[\x00-\x20\x7f<>\"\\^`|]")


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a Go-style duration such as `10ms`, `1h30m`, `1.5s`; rounded up from ns.

    `0` needs no unit. Raises ValueError.
    """
    return -(-parse_duration_ns(text) // NS_PER_MS)


def parse_duration_ns(text: str) -> int:
    """The same in nanoseconds."""
    text = text.strip()
    if text in ("0", "+0"):
        return 0
    if text.startswith("-"):
        raise ValueError("is negative, which a duration cannot be")
    if len(text) > _MAX_TEXT or not _DURATION.fullmatch(text):
        raise ValueError(_bad_duration(text))
    total = sum(_scaled(number, _UNIT_NS[unit]) for number, unit in _DURATION_PART.findall(text))
    if total > _MAX_DURATION_NS:
        raise ValueError("is longer than 292 years")
    return total


def _scaled(number: str, unit_ns: int) -> int:
    whole, _, fraction = number.partition(".")
    scaled = int(whole or "0") * unit_ns
    return scaled + (int(fraction) * unit_ns // 10 ** len(fraction) if fraction else 0)


def _bad_duration(text: str) -> str:
    if re.fullmatch(r"\d+(\.\d+)?", text) and len(text) < 20:
        return f'needs a unit: "{text}s" is seconds, "{text}ms" milliseconds, "{text}m" minutes'
    days = re.fullmatch(r"(\d{1,6})\s*(?:d|days?)", text, re.IGNORECASE)
    if days:
        return f'has no unit for days, write "{int(days[1]) * 24}h"'
    loose = re.fullmatch(r"(\d{1,12})\s*(ms|s|m|h)[a-z]*", text, re.IGNORECASE)
    if loose:
        return f'is written without spaces or words, such as "{loose[1]}{loose[2].lower()}"'
    return 'is not a duration such as "10ms", "30s", "1m" or "1h30m"'


def parse_size_bytes(text: str) -> int:
    """Bytes of a size such as `64KB`, `128MB`, `1GB` (powers of 1024). Raises ValueError."""
    text = text.strip()
    match = _SIZE.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None:
        if text.startswith("-"):
            raise ValueError("is negative, which a size cannot be")
        raise ValueError('is not a size such as "64KB", "128MB" or "1GB"')
    power = _SIZE_POWER[(match[2] or "B")[0].upper()]
    size = int(match[1]) << (10 * power)
    if size > _MAX_SIZE_BYTES:
        raise ValueError("is a size beyond 8 EB")
    return size


def parse_address(text: str) -> Address:
    """A listening address: `:8080` (all interfaces), `127.0.0.1:8080`, `[::1]:80`.

    `0.0.0.0` and `[::]` mean all interfaces as well. Raises ValueError.
    """
    text = text.strip()
    if len(text) > _MAX_TEXT:
        raise ValueError(_BAD_ADDRESS)
    if "://" in text:
        raise ValueError(f"is a URL; {_BAD_ADDRESS}")
    if text.isdecimal():
        raise ValueError(f'needs a colon: ":{text}" or "127.0.0.1:{text}"')
    host, colon, port = text.rpartition(":")
    if not colon or not port:
        raise ValueError(f"has no port; {_BAD_ADDRESS}")
    if not (port.isascii() and port.isdigit()) or not 1 <= int(port[:9]) <= 65535:
        raise ValueError(f'has the port "{port}", which is not a number from 1 to 65535')
    if host.startswith("[") and host.endswith("]") and _IPV6.fullmatch(host[1:-1]):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError('has an IPv6 host, which needs brackets, such as "[::1]:8080"')
    elif host and not _HOST_LABELS.fullmatch(host):
        raise ValueError(f'has the host "{host}", which is no host name or IP address')
    return Address("" if host in ("0.0.0.0", "::") else host, int(port))


_BAD_ADDRESS = 'an address is written ":8080" (all interfaces) or "127.0.0.1:8080"'


def check_url(text: str) -> None:
    """An http or https URL with a host; `{name}` parts are allowed. Raises ValueError."""
    bad = _URL_BAD.search(text)
    if bad:
        raise ValueError(f'holds the character "{_visible(bad[0])}", which must be percent-encoded')
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ValueError(f'is not a URL; did you mean "https://{text[:60]}"?')
    if scheme.lower() not in ("http", "https"):
        raise ValueError(f'has the scheme "{scheme[:20]}", only http and https can be used')
    if not rest or rest[0] in "/?#":
        raise ValueError("has no host")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("has a bad port or host") from None
    if not host:
        raise ValueError("has no host")
    if port == 0:
        raise ValueError("has the port 0")


def check_replica_url(text: str) -> None:
    """A place for replicas: `s3://bucket/path`, `gs://`, `abs://`, `sftp://`, `file://`."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _REPLICA_SCHEMES or not rest or _URL_BAD.search(text):
        known = ", ".join(f"{name}://" for name in _REPLICA_SCHEMES)
        raise ValueError(f'is not a replica URL such as "s3://bucket/path" ({known})')


_REPLICA_SCHEMES = ("s3", "gs", "gcs", "abs", "azure", "sftp", "file")


MAX_PATH = 1024
"""Characters of a gjson path; it is compiled once a source and run for each record."""


def check_gjson(text: str) -> None:
    """Refuse what the source's own compiler would refuse. Raises ValueError."""
    if len(text) > MAX_PATH:
        raise ValueError(f"has more than {MAX_PATH} characters")
    if text.startswith("$"):
        raise ValueError('is a JSONPath; gjson paths have no "$", write "a.b" instead of "$.a.b"')
    if text != text.strip():
        raise ValueError("has blanks around it")
    if text:
        try:
            compile_ops(text)
        except PathError as error:
            reason = str(error).removeprefix(f"path {text!r}: ")
            hint = f" ({error.hint})" if error.hint else ""
            raise ValueError(f"{reason}{hint}") from None


def check_brokers(text: str) -> None:
    """Kafka brokers: `host:port,host:port`. Raises ValueError."""
    for broker in text.split(","):
        host, colon, port = broker.strip().rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit():
            raise ValueError(f'holds "{broker.strip()}", but a broker is written "host:9092"')
        if not 1 <= int(port[:9]) <= 65535:
            raise ValueError(f'has the port "{port}", which is not a number from 1 to 65535')


def check_since(text: str) -> None:
    """A time in RFC 3339, a date, or a duration before now. Raises ValueError."""
    if _SINCE_DURATION.fullmatch(text):
        return
    try:
        if _SINCE_TIME.fullmatch(text):
            datetime.fromisoformat(text[:19].upper().replace(" ", "T"))
            return
    except ValueError:
        pass
    raise ValueError(
        'is neither a time such as "2024-01-01T00:00:00Z" nor a duration such as "24h"'
    )


_SINCE_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+")
_SINCE_TIME = re.compile(
    r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d:\d\d(?:[.,]\d{1,30})?\s?(?:[Zz]|[+-]\d\d:?\d\d)?)?", re.ASCII
)


def check_time_format(text: str) -> None:
    """How an API writes times. Raises ValueError."""
    if text not in ("rfc3339", "unix", "unix_ms") and "%" not in text:
        raise ValueError('is not rfc3339, unix, unix_ms or a pattern such as "%Y-%m-%d"')


def check_origin(text: str) -> None:
    """What browsers send as Origin: `https://app.example.com`, or "*". Raises ValueError."""
    scheme, separator, host = text.rstrip("/").partition("://")
    if text in ("*", "null"):
        return
    if not separator or not scheme or not host or _URL_BAD.search(text) or set("/?#@*") & set(host):
        raise ValueError('is not an origin such as "https://app.example.com"')
    if host.endswith(_DEFAULT_PORTS.get(scheme.lower(), "/")):
        short = f"{scheme}://{host.rpartition(':')[0]}"
        raise ValueError(f'has the port that browsers leave out; write "{short}"')


_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_header_name(text: str) -> None:
    """The name of an HTTP header. Raises ValueError."""
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError("is not the name of a header: those are letters, digits and hyphens")


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")


def _visible(character: str) -> str:
    return character if character.isprintable() else f"\\x{ord(character):02x}"
