"""Standard Webhooks: its own example, and what is not accepted as a signature."""

import pytest

from litejoin.signatures import is_recent, is_signed, signature, signing_key

KEY = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
EXAMPLE = (b"msg_p5jXN8AQM9LWM0D4loKWxJek", b"1614265330", b'{"test": 2432232314}')
SIGNED = b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    assert signature((KEY,), *EXAMPLE) == SIGNED
    assert is_signed((KEY,), *EXAMPLE, SIGNED)


def test_any_secret_and_any_of_several_signatures_count() -> None:
    assert is_signed((b"new", KEY), *EXAMPLE, SIGNED)
    assert is_signed((KEY,), *EXAMPLE, b"v1,AAAA v1a,BBBB " + SIGNED)


@pytest.mark.parametrize("part", range(3))
def test_every_part_is_signed(part: int) -> None:
    changed = [each + b"1" if at == part else each for at, each in enumerate(EXAMPLE)]
    assert not is_signed((KEY,), changed[0], changed[1], changed[2], SIGNED)


@pytest.mark.parametrize("offered", [b"", b" ", b"v1,", SIGNED[3:], b"v2," + SIGNED[3:], b"\xff"])
def test_what_is_no_signature(offered: bytes) -> None:
    assert not is_signed((KEY,), *EXAMPLE, offered)
    assert not is_signed((), *EXAMPLE, SIGNED)
    assert not is_signed((b"another",), *EXAMPLE, SIGNED)


@pytest.mark.parametrize(
    ("sent_s", "recent"),
    [
        (b"1000000", True), (b"999700", True), (b"1000300", True),
        (b"999699", False), (b"1000301", False), (b"-1000000", False), (b"1e6", False),
        (b"", False), (b"1000000.0", False), (b" 1000000", False), (b"9" * 5000, False),
    ],
)  # fmt: skip
def test_five_minutes_either_way_are_recent(sent_s: bytes, recent: bool) -> None:
    assert is_recent(sent_s, 1_000_000_999) is recent


def test_a_secret_is_base64_behind_its_prefix_and_text_without() -> None:
    assert signing_key("whsec_AP8=") == b"\x00\xff"
    assert signing_key("plain \u00fc") == "plain \u00fc".encode()
    for bad in ("whsec_not-base64!", "whsec_\u00fc"):
        with pytest.raises(ValueError, match="not base64") as refused:
            signing_key(bad)
        assert "not-base64" not in str(refused.value)
