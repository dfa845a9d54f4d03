"""The hash of the engine's maps: right, keyed for each process, and no toy of who sends keys."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from litejoin._ext import bridge
from litejoin._ext.checksum import xxh64
from litejoin.records import Row, RowKind
from tests.differential.pipeline import EnginePipeline, engine_pipeline

PUBLISHED_SECRET = b"".join(
    word.to_bytes(8, "little")
    for word in (0x2D358DCCAA6C78A5, 0x8BB84B93962EACC9, 0x4B33A62ED433D4A3, 0x4D5A2DA51DE1AA47)
)
PUBLISHED = [
    (b"", 0x93228A4DE0EEC5A2),
    (b"a", 0xC5BAC3DB178713C4),
    (b"abc", 0xA97F2F7B1D9B3314),
    (b"message digest", 0x786D1F1DF3801DF4),
    (b"abcdefghijklmnopqrstuvwxyz", 0xDCA5A8138AD37C87),
    (b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 0xB9E734F117CFAF70),
    (b"1234567890" * 8, 0x6CC5EAB49A92D617),
]
"""The vectors of wyhash, final version 4; their numbers are the seeds."""


@pytest.mark.parametrize("number", range(len(PUBLISHED)))
def test_it_is_wyhash(number: int) -> None:
    text, expected = PUBLISHED[number]
    assert bridge.map_hash(text, number, PUBLISHED_SECRET) == expected


def test_every_byte_counts_at_every_length() -> None:
    rng = random.Random(3)
    for size in [*range(1, 70), 96, 97, 144, 1000]:
        text = bytearray(rng.randbytes(size))
        at = rng.randrange(size)
        before = bridge.map_hash(bytes(text), 1, PUBLISHED_SECRET)
        text[at] ^= 1 << rng.randrange(8)
        assert bridge.map_hash(bytes(text), 1, PUBLISHED_SECRET) != before
        assert bridge.map_hash(bytes(text), 2, PUBLISHED_SECRET) != before


def test_each_process_has_a_secret_of_its_own() -> None:
    show = "from litejoin._ext import bridge; print(bridge.map_secret().hex())"
    shown = {
        subprocess.run([sys.executable, "-c", show], check=True, capture_output=True).stdout
        for _ in range(2)
    }
    assert len(shown) == 2
    assert all(len(bytes.fromhex(text.decode())) == 32 for text in shown)
    assert bridge.map_secret() == bridge.map_secret()


def of_one_xxh64(count: int) -> list[str]:
    """Keys with one XXH64 of seed 1: its third lane takes 8 bytes of each 32, and what the first
    of them does to it the second can undo (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
    """
    one, two, mask = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, (1 << 64) - 1
    rng, inverse = random.Random(7), pow(two, -1, 1 << 64)

    def lane(at: int, taken: bytes) -> int:
        at = (at + int.from_bytes(taken, "little") * two) & mask
        return ((at << 31 | at >> 33) * one) & mask

    first, second = b"a" * 8, b"b" * 8
    before_last = lane(1, first) + int.from_bytes(second, "little") * two
    made = [(first, second)]
    while len(made) < count:
        other = bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=8))
        undo = ((before_last - lane(1, other)) * inverse & mask).to_bytes(8, "little")
        if all(0x20 < byte < 0x7F and byte not in b'"\\' for byte in undo):
            made.append((other, undo))
    return [(b"." * 16 + a + b"." * 24 + b + b"." * 8).decode() for a, b in made]


def test_a_sender_cannot_choose_keys_that_are_one_to_a_map(tmp_path: Path) -> None:
    """With a hash that is known, each of these users would be looked for in the orders of all."""
    keys = of_one_xxh64(40)
    assert len({xxh64(key.encode(), 1) for key in keys}) == 1
    query = (
        "SELECT o.key AS k, u.payload ->> 'name' AS name FROM orders o"
        " JOIN users u ON u.key = o.payload ->> 'user_id'"
    )
    with engine_pipeline(tmp_path / "d", 1, {"j": query}) as p:
        orders = [(f"o{n}", {"user_id": key}) for n, key in enumerate(keys)]
        p.engine.apply(*p.write(rows(p, "orders", orders)))
        written = p.write(rows(p, "users", [(key, {"name": key}) for key in keys]))
        with p.reads("orders") as reads:
            p.engine.apply(*written)
        assert reads == ["id = ?1"] * len(keys)
        assert len(p.log()) == len(keys)


def rows(p: EnginePipeline, topic: str, contents: list[tuple[str, dict[str, str]]]) -> list[Row]:
    return [
        Row(p.numbers[topic], RowKind.UPSERT, 1, key.encode(), json.dumps(payload).encode())
        for key, payload in contents
    ]
