"""Durations, sizes, addresses, URLs and paths: what is read, what is refused and how it is told."""

import pytest

from litejoin.config.values import (
    check_brokers,
    check_gjson,
    check_replica_url,
    check_url,
    parse_address,
    parse_duration_ms,
    parse_size_bytes,
)
from litejoin.plan.nodes import Address


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("10ms", 10),
        ("30s", 30_000),
        ("1m", 60_000),
        ("1h30m", 5_400_000),
        ("168h", 604_800_000),
        ("1.5s", 1_500),
        (".5s", 500),
        ("1s500ms", 1_500),
        ("0", 0),
        ("0s", 0),
        ("1us", 1),
        ("100ns", 1),
        ("2562047h", 9_223_369_200_000),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("30", 'needs a unit: "30s"'),
        ("1d", 'write "24h"'),
        ("2 days", 'write "48h"'),
        ("5 min", '"5m"'),
        ("10 ms", '"10ms"'),
        ("-5s", "negative"),
        ("", "is not a duration"),
        ("1h30", "is not a duration"),
        ("soon", "is not a duration"),
        ("9" * 300 + "s", "is not a duration"),
        ("9999999999h", "292 years"),
    ],
)
def test_bad_durations_say_how_to_write_them(text: str, told: str) -> None:
    with pytest.raises(ValueError, match="^.*" + told.replace("(", r"\(")):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KB", 65_536),
        ("128MB", 134_217_728),
        ("1GB", 1_073_741_824),
        ("1 KiB", 1_024),
        ("512", 512),
        ("512B", 512),
        ("2t", 2_199_023_255_552),
        ("0", 0),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "lots", "1.5GB", "-1KB", "1XB", "KB", "9" * 30])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size_bytes(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", Address("", 8080)),
        ("0.0.0.0:8080", Address("", 8080)),
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:80", Address("::1", 80)),
        ("[::]:80", Address("", 80)),
        ("localhost:1", Address("localhost", 1)),
        ("my-host.example.com:65535", Address("my-host.example.com", 65535)),
    ],
)
def test_addresses_are_read_as_go_reads_them(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("8080", '":8080"'),
        ("localhost", "has no port"),
        ("localhost:", "has no port"),
        (":0", "from 1 to 65535"),
        (":65536", "from 1 to 65535"),
        (":http", "from 1 to 65535"),
        ("::1:80", "brackets"),
        ("http://localhost:80", "is a URL"),
        ("a b:80", "no host name"),
        (":٣٣٣", "from 1 to 65535"),
    ],
)
def test_bad_addresses_say_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:9000/webhook",
        "https://api.example.com/orders?x=1#y",
        "https://[::1]:8443/",
        "https://api.example.com/users/{id}",
        "HTTPS://EXAMPLE.COM",
    ],
)
def test_http_urls_pass(text: str) -> None:
    check_url(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("api.example.com/orders", 'did you mean "https://api.example.com/orders"'),
        ("ftp://example.com", "only http and https"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://host:99999/", "bad port"),
        ("http://host:0/", "port 0"),
        ("http://[::1/", "bad port or host"),
        ("http://a b/", "percent-encoded"),
        ("http://a/\n", "percent-encoded"),
    ],
)
def test_bad_urls_say_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id",
        "a.b.0",
        "data.#.id",
        'list.#(name=="a.b").id',
        "a\\.b",
        "@this",
        "items.@reverse|0",
    ],
)
def test_gjson_paths_pass(text: str) -> None:
    check_gjson(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("$.id", "JSONPath"),
        ("a..b", "empty name"),
        (".a", "empty name"),
        ("a.", "empty name"),
        ("a.#(b", "query without its closing parenthesis"),
        ("a.{b,c}", "not supported"),
        (' a', "blanks"),
    ],
)  # fmt: skip
def test_bad_gjson_paths_say_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_gjson(text)


def test_brokers_and_replica_urls() -> None:
    check_brokers("a:9092, b:9092")
    check_replica_url("s3://bucket/path")
    for bad in ("localhost", "a:9092,", "a:x", "a:70000"):
        with pytest.raises(ValueError, match="broker|port"):
            check_brokers(bad)
    for bad in ("bucket/path", "ftp://x", "s3://"):
        with pytest.raises(ValueError, match="replica"):
            check_replica_url(bad)
