"""Secrets by field, by name and by value."""

import pytest

from litejoin.plan.nodes import Secret
from litejoin.plan.redact import is_secret_name, mask_all, masked_by_value, secret_values, shown_url


@pytest.mark.parametrize(
    "name",
    ["appid", "app_id", "api_key", "apikey", "X-Api-Key", "key", "access_token", "token", "sig",
     "signature", "Authorization", "password", "client_secret", "OWM_KEY", "API_TOKEN", "Cookie",
     "api%5Fkey"],
)  # fmt: skip
def test_names_that_hold_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["q", "limit", "page", "since", "city", "author", "keyword", "monkey", "keys"]
)
def test_names_that_do_not(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/p?q=London&appid=abc", "https://h/p?q=London&appid=***"),
        ("https://h/p?token=a%20b;key=c#access_token=d", "https://h/p?token=***;key=***#access_token=***"),
        ("https://bob:pw@h:1/p", "https://***@h:1/p"),
        ("https://tok@h/p?x=a@b", "https://***@h/p?x=a@b"),
        ("https://h/p?x=a@b", "https://h/p?x=a@b"),
        ("https://h/p?token=", "https://h/p?token="),
        ("https://h/p?key=${API_KEY}&sig=${S:-abc}", "https://h/p?key=${API_KEY}&sig=***"),
        ("https://h/p", "https://h/p"),
    ],
)  # fmt: skip
def test_urls_are_shown_without_their_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_what_a_url_hides_is_a_secret_everywhere() -> None:
    plan = ["https://bob:pass1@h/p?key=a%20b%20c", {"Authorization": Secret("Bearer tok-1")}]
    assert secret_values(plan) == {"pass1", "a%20b%20c", "a b c", "Bearer tok-1", "tok-1"}


def test_a_harmless_header_is_not_masked_elsewhere() -> None:
    headers = {"Accept-Version": Secret("2024"), "X-Long": Secret("0123456789abcdef")}
    assert secret_values(headers) == {"0123456789abcdef"}


def test_masking_reaches_every_text_and_the_longest_secret_first() -> None:
    value = {"a": ("xx secret-long xx", ["secret"]), "n": 7, "s": Secret("whatever")}
    assert mask_all(value, frozenset({"secret", "secret-long"})) == {
        "a": ("xx *** xx", ["***"]),
        "n": 7,
        "s": "***",
    }


def test_words_of_the_plan_and_short_texts_are_masked_in_their_own_field_only() -> None:
    values = ["none", "postgres", "native", "at_least_once", "cursor", "abc", "None", "s3cret"]
    assert masked_by_value(values) == {"None", "s3cret"}


def test_no_secrets_means_no_change() -> None:
    assert mask_all({"a": "text"}, frozenset()) == {"a": "text"}
