"""A key's shard is FNV-1a 32 of its UTF-8 bytes, the same in native code and in Python."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litejoin._ext import checksum, route
from litejoin.records import Row, RowKind, pack_rows
from tests.reference import checksum as checksum_twin
from tests.reference import route as route_twin

# From the test vectors published with FNV (test_fnv.c, "fnv1a_32_vector").
VECTORS = [
    (b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"b", 0xE70C2DE5), (b"foo", 0xA9F37ED7),
    (b"foob", 0x3F5076EF), (b"fooba", 0x39AAA18A), (b"foobar", 0xBF9CF968), (b"\0", 0x050C5D1F),
    (b"chongo was here!\n", 0xD49930D5),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), VECTORS)
def test_published_vectors(key: bytes, value: int) -> None:
    assert route.fnv1a32(key) == value
    assert route_twin.fnv1a32(key) == value


@given(st.one_of(st.binary(), st.text()), st.integers(1, 256))
def test_routing_is_total_and_equal_to_the_twin(key: bytes | str, shards: int) -> None:
    if isinstance(key, str):
        assert route.shard_of(key, shards) == route.shard_of(key.encode(), shards)
    assert route.fnv1a32(key) == route_twin.fnv1a32(key)
    assert route.shard_of(key, shards) == route_twin.shard_of(key, shards) < shards


def test_a_lone_surrogate_has_no_shard() -> None:
    with pytest.raises(UnicodeEncodeError):
        route.fnv1a32("a\ud800")
    with pytest.raises(UnicodeEncodeError):
        route.shard_of("\udfff", 8)


@pytest.mark.parametrize("shards", [0, -1])
def test_a_shard_count_below_one_is_refused(shards: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        route.shard_of(b"a", shards)


def test_a_key_is_bytes_or_str() -> None:
    with pytest.raises(TypeError, match="bytes or str, not int"):
        route.fnv1a32(7)  # type: ignore[arg-type]


ROWS = st.lists(
    st.builds(
        Row, st.integers(1, 9), st.sampled_from(RowKind), st.integers(0, 2**40),
        st.binary(min_size=1, max_size=20), st.binary(max_size=20), st.binary(max_size=20),
    )
)  # fmt: skip


@given(ROWS, st.integers(1, 256))
def test_the_shards_of_a_batch_equal_the_twin(rows: list[Row], shards: int) -> None:
    batch = pack_rows(rows)
    assert route.shards_of(batch, shards) == route_twin.shards_of(batch, shards)


@given(ROWS.filter(bool), st.data())
def test_bytes_that_are_no_batch_are_refused_or_read_within_bounds(
    rows: list[Row], data: st.DataObject
) -> None:
    batch = bytearray(pack_rows(rows))
    at = data.draw(st.integers(0, len(batch) - 1))
    batch[at] = data.draw(st.integers(0, 255))
    cut = bytes(batch[: data.draw(st.integers(0, len(batch)))])
    try:
        assert set(route.shards_of(cut, 8)) <= set(range(8))
    except ValueError as error:
        assert "byte" in str(error)


@pytest.mark.parametrize("shards", [0, -1, 257])
def test_a_batch_has_one_to_256_shards(shards: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 256"):
        route.shards_of(b"", shards)


# From the specification's sanity checks: the empty input, and short ones by an independent library.
@pytest.mark.parametrize(
    ("data", "seed", "value"), [(b"", 0, 0xEF46DB3751D8E999), (b"a", 0, 0xD24EC4F1A98C6E5B)]
)
def test_xxh64_vectors(data: bytes, seed: int, value: int) -> None:
    assert checksum.xxh64(data, seed) == value


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_xxh64_equals_the_library(data: bytes, seed: int) -> None:
    assert checksum.xxh64(data, seed) == checksum_twin.xxh64(data, seed)


@given(
    st.integers(0, 1), st.integers(0, 65535), st.integers(0, 2), st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=40), st.binary(max_size=80), st.none() | st.binary(max_size=40),
)  # fmt: skip
def test_row_checksum_equals_the_twin(
    kind: int,
    table: int,
    op: int,
    timestamp_ms: int,
    key: bytes,
    payload: bytes,
    extra: bytes | None,
) -> None:
    arguments = (kind, table, op, timestamp_ms, key, payload, extra)
    assert checksum.row_checksum(*arguments) == checksum_twin.row_checksum(*arguments)
