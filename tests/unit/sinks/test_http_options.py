"""The webhook sink's options: signatures, authorization, classes of answers, batches, TLS."""

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.clock import SystemClock
from litejoin.errors import SinkError
from litejoin.plan.nodes import ClientTls, HttpSinkPlan, ResponseClasses, Secret
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, BatchSink, Outcome, Sink
from litejoin.sinks.http.request import target_of
from litejoin.sinks.http.sink import HttpBatchSink, HttpSink, batch_of
from tests.unit.sinks.receiver import Answer, Receiver, Request
from tests.unit.sinks.test_http import plan, result, send

PEM = Path(__file__).parents[1] / "runtime" / "localhost.pem"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def verified(key: bytes, request: Request) -> bool:
    """As a receiver with one secret does it: any of the signatures may be its own."""
    stamp = request.headers["webhook-timestamp"]
    signed = f"{request.headers['webhook-id']}.{stamp}.".encode() + request.body
    mine = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return mine in request.headers["webhook-signature"].split(" ")


def test_requests_are_signed_by_every_secret(receiver: Receiver) -> None:
    old, new = b"an old secret", b"\x00\xff a new one"
    encoded = "whsec_" + base64.b64encode(new).decode()
    send(plan(receiver.url, secrets=(Secret(encoded), Secret(old.decode()))), result(1), result(2))
    for request in receiver.requests:
        assert verified(old, request)
        assert verified(new, request)
        assert not verified(b"another", request)
        assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 300
        assert len(request.headers["webhook-signature"].split(" ")) == 2


def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    send(plan(receiver.url))
    assert "webhook-signature" not in receiver.requests[0].headers


def test_a_secret_that_cannot_be_one_refuses_the_start() -> None:
    with pytest.raises(SinkError, match="not base64") as refused:
        send(plan("http://127.0.0.1:1/", secrets=(Secret("whsec_not-base64!"),)))
    assert "not-base64!" not in str(refused.value)


def test_secrets_do_not_reach_error_texts(receiver: Receiver) -> None:
    receiver.answer = lambda r: Answer(400, body=b"bad tok-12345678 sig-12345678 par-12345678")
    outcome = send(
        plan(
            receiver.url,
            headers={"Authorization": Secret("Bearer tok-12345678")},
            query={"k": Secret("par-12345678")},
            secrets=(Secret("sig-12345678"),),
        )
    )[0]
    assert outcome.error == "HTTP 400: bad *** *** ***"


def test_a_parameter_of_auth_is_added_to_the_url() -> None:
    query = {"api key": Secret("a&b")}
    assert target_of(plan("http://h/hook", query=query)).path == "/hook?api%20key=a%26b"
    assert target_of(plan("http://h/hook?x=1", query=query)).path == "/hook?x=1&api%20key=a%26b"


@pytest.mark.parametrize(
    ("url", "host"),
    [("http://h/", "h"), ("http://h:80/", "h"), ("http://h:443/", "h:443"), ("https://h:443/", "h"),
     ("https://h:80/", "h:80"), ("http://H.example.:8080/", "h.example:8080"),
     ("http://[::1]:9/", "[::1]:9"), ("http://[fe80::1%25eth0]/", "[fe80::1]"),
     ("http://bücher.example/", "xn--bcher-kva.example")],
)  # fmt: skip
def test_the_host_is_named_as_a_url_means_it(url: str, host: str) -> None:
    assert f"\r\nHost: {host}\r\n".encode() in target_of(plan(url)).head


def test_a_header_of_the_config_takes_the_place_of_the_usual_one(receiver: Receiver) -> None:
    headers = {
        "content-type": "application/cloudevents+json", "USER-AGENT": "shop", "host": "crm.example",
        "accept-encoding": "*", "authorization": "Bearer t", "X-Name": "Zo\xeb",
        "idempotency-KEY": "mine", "content-length": "3", "transfer-encoding": "chunked",
    }  # fmt: skip
    url = receiver.url.replace("http://", "http://me:pw@")
    send(plan(url, headers={name: Secret(value) for name, value in headers.items()}))
    got = receiver.requests[0]
    assert got.body == result().body()
    ours = {"idempotency-KEY", "content-length", "transfer-encoding"}
    expected = {name: value for name, value in headers.items() if name not in ours}
    expected |= {name: result().id for name in ("webhook-id", "Idempotency-Key")}
    assert got.headers == expected | {"Content-Length": str(len(got.body))}


def test_a_request_leaves_in_one_piece() -> None:
    server, pieces = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            pieces.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    outcomes = send(plan(f"http://127.0.0.1:{server.getsockname()[1]}/hook"))
    thread.join()
    server.close()
    assert outcomes == [DELIVERED]
    assert pieces[0].startswith(b"POST /hook HTTP/1.1\r\nHost: 127.0.0.1:")
    assert pieces[0].endswith(b"\r\n\r\n" + result().body())


@pytest.mark.parametrize(
    ("code", "status"),
    [(200, "delivered"), (208, "retry"), (404, "retry"), (409, "delivered"), (410, "reject"),
     (503, "stop"), (500, "retry"), (301, "reject"), (422, "reject")],
)  # fmt: skip
def test_the_classes_of_answers_can_be_set(receiver: Receiver, code: int, status: str) -> None:
    classes = ResponseClasses(
        delivered=("2xx", "409"), retry=("4xx", "208", "5XX"), stop=("503",), park=("410", "422")
    )
    receiver.answer = lambda _: Answer(code)
    assert send(plan(receiver.url, responses=classes))[0].status == status


def deliver_batches(sink_plan: HttpSinkPlan, *batches: list[Result]) -> list[list[Outcome]]:
    async def story() -> list[list[Outcome]]:
        sink = HttpBatchSink(sink_plan, SystemClock())
        await sink.open()
        outcomes = [list(await sink.deliver_batch(batch)) for batch in batches]
        await sink.close()
        return outcomes

    return asyncio.run(story())


def test_a_batch_is_one_request_with_an_array(receiver: Receiver) -> None:
    results = [result(n) for n in range(1, 6)]
    outcomes = deliver_batches(plan(receiver.url, max_batch=100), results, list(results))
    assert {o.status for batch in outcomes for o in batch} == {"delivered"}
    first, again = receiver.requests
    assert [r["seq"] for r in first.result] == [1, 2, 3, 4, 5]  # type: ignore[comparison-overlap]
    assert first.body == again.body
    assert first.headers["webhook-id"] == again.headers["webhook-id"], "one id, one body"
    assert first.headers["webhook-id"] != batch_of(results[:4])[0]


def test_only_the_bad_result_of_a_refused_batch_is_parked(receiver: Receiver) -> None:
    receiver.answer = lambda r: Answer(400 if b'"seq":3' in r.body else 200)
    outcomes = deliver_batches(plan(receiver.url, max_batch=9), [result(n) for n in range(1, 6)])
    assert [o.status for o in outcomes[0]] == ["delivered"] * 2 + ["reject"] + ["delivered"] * 2


def test_nothing_behind_a_result_that_cannot_be_taken_now_is_sent(receiver: Receiver) -> None:
    codes = {1: 200, 2: 503, 3: 200}
    receiver.answer = lambda r: Answer(400 if len(r.result) > 1 else codes[r.result[0]["seq"]])  # type: ignore[index]
    outcomes = deliver_batches(plan(receiver.url, max_batch=9), [result(n) for n in (1, 2, 3)])
    assert [o.status for o in outcomes[0]] == ["delivered", "retry", "retry"]
    assert len(receiver.requests) == 3


def test_a_batch_that_cannot_be_taken_now_is_held_whole(receiver: Receiver) -> None:
    receiver.answer = lambda r: Answer(503)
    outcomes = deliver_batches(plan(receiver.url, max_batch=9), [result(n) for n in range(1, 6)])
    assert [o.status for o in outcomes[0]] == ["retry"] * 5
    assert len(receiver.requests) == 1


def test_delivery_can_tell_the_two_sinks_apart() -> None:
    single: Sink = HttpSink(plan("http://h/"))
    batch: BatchSink = HttpBatchSink(plan("http://h/", max_batch=5))
    assert not isinstance(single, BatchSink)
    assert isinstance(batch, BatchSink)
    assert batch.max_batch == 5


@pytest.fixture
def tls_receiver(receiver: Receiver) -> Receiver:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    server = receiver._server
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    return receiver


def test_a_certificate_is_verified_with_the_authority_of_the_config(
    tls_receiver: Receiver,
) -> None:
    url = f"https://localhost:{tls_receiver.port}/"
    assert send(plan(url))[0].status == "retry", "nobody vouches for it"
    assert send(plan(url, tls=ClientTls(ca_file=PEM)))[0].status == "delivered"
    assert send(plan(url, tls=ClientTls(verify=False)))[0].status == "delivered"


def test_a_certificate_that_cannot_be_read_refuses_the_start(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="certificates"):
        send(plan("https://localhost/", tls=ClientTls(ca_file=tmp_path / "none.pem")))
