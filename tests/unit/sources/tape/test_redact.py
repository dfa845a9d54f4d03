"""What a recording keeps of secrets: nothing; and of everything else: every byte."""

import pytest

from litejoin.sources.tape.redact import Redactor

SECRET = 'pa/ss "word" &1'


def test_a_known_secret_is_taken_out_wherever_and_however_it_is_written() -> None:
    redact = Redactor([SECRET])
    for written in (SECRET, "pa%2Fss%20%22word%22%20%261", "pa%2Fss+%22word%22+%261"):
        assert redact.text(f"a {written} b") == "a *** b"
        assert redact.url(f"https://x/?q={written}&r=1") == "https://x/?q=***&r=1"
    assert redact.body(b'{"note": "pa/ss \\"word\\" &1"}') == b'{"note": "***"}'


@pytest.mark.parametrize("value", ["on", "12345", "100", "1234567890", "3.141592653"])
def test_values_that_stand_everywhere_are_left_alone(value: str) -> None:
    body = f'{{"id": {value if value != "on" else 1}, "state": "on"}}'.encode()
    assert Redactor([value]).body(body) == body


@pytest.mark.parametrize(
    "name",
    ["Authorization", "cookie", "set-cookie", "X-Api-Key", "x-shopify-access-token", "X-Auth"],
)
def test_headers_with_credentials_lose_their_value(name: str) -> None:
    assert Redactor().headers({name: "Bearer abc"}) == {name: "***"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("link", '<https://x/?page=2>; rel="next"'),
        ("x-ratelimit-remaining", "59"),
        ("retry-after", "3"),
        ("etag", '"abc"'),
        ("www-authenticate", "Bearer"),
    ],
)
def test_headers_that_a_walk_needs_stay(name: str, value: str) -> None:
    assert Redactor().headers({name: value}) == {name: value}


def test_fields_of_tokens_are_taken_out_and_the_rest_keeps_its_bytes() -> None:
    body = b'{"access_token" :  "a\\"b", "expires_in":3600,"next_token":"n1", "n": 1.0e5}'
    kept = b'{"access_token" :  "***", "expires_in":3600,"next_token":"n1", "n": 1.0e5}'
    assert Redactor().body(body) == kept


def test_more_fields_can_be_named() -> None:
    body = b'[{"email": "a@example.com", "phone": 4912345, "id": 1}]'
    assert Redactor(fields=["email", "phone"]).body(body) == (
        b'[{"email": "***", "phone": 0, "id": 1}]'
    )


def test_a_form_loses_its_secrets() -> None:
    form = b"grant_type=client_credentials&client_secret=abc%20def&scope=read"
    assert Redactor().body(form) == b"grant_type=client_credentials&client_secret=***&scope=read"
    assert Redactor().body(b"client_secret=x") == b"client_secret=***"


def test_page_tokens_stay_in_urls() -> None:
    redact = Redactor()
    assert redact.url("https://x/?page_token=p1&token=t1") == "https://x/?page_token=p1&token=t1"
    assert redact.url("https://x/?a=1&access_token=t#f") == "https://x/?a=1&access_token=***#f"


def test_redacting_twice_changes_nothing_more() -> None:
    redact = Redactor([SECRET])
    once = redact.body(b'{"access_token":"t","x":"' + SECRET.encode() + b'"}')
    assert redact.body(once) == once
    assert redact.url(redact.url("https://x/?sig=1")) == "https://x/?sig=***"
