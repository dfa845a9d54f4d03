"""The scripted servers and the clients, tried on each other."""

import socket
import threading

import pytest
import urllib3

from tests.harness.ingest import IngestClient, gzipped, message, raw_exchange, status_of
from tests.harness.scripted import Reply, Upstream, WebhookReceiver, json_reply
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually


def test_replies_follow_the_script_then_the_default(receiver: WebhookReceiver) -> None:
    receiver.then(Reply(500), Reply(503, headers={"Retry-After": "2"}))
    with IngestClient(receiver.url) as client:
        assert [client.offer({"n": i}).status for i in range(3)] == [500, 503, 200]
    assert [r.json for r in receiver.seen()] == [{"n": 0}, {"n": 1}, {"n": 2}]
    # Counted after the answer was written, so perhaps a moment after the client has it.
    eventually(lambda: [r.json for r in receiver.delivered("/ingest")] == [{"n": 2}])


def test_a_reset_and_a_cut_body_look_like_broken_connections(receiver: WebhookReceiver) -> None:
    receiver.then(Reply(reset=True), Reply(body=b"0123456789", cut_after=4))
    with IngestClient(receiver.url) as client:
        with pytest.raises(urllib3.exceptions.ProtocolError):
            client.offer({})
        with pytest.raises(urllib3.exceptions.HTTPError):
            client.offer({})
        assert client.offer({}).status == 200


def test_a_server_that_is_down_refuses_and_comes_back_on_its_port(
    receiver: WebhookReceiver,
) -> None:
    with IngestClient(receiver.url) as client:
        assert client.offer({}).status == 200
        receiver.down()
        with pytest.raises(urllib3.exceptions.HTTPError):
            client.offer({})
        receiver.up()
        assert client.offer({}).status == 200


def test_a_hanging_reply_ends_with_the_server(receiver: WebhookReceiver) -> None:
    receiver.then(Reply(hang=True))
    with (
        IngestClient(receiver.url, timeout_s=0.2) as client,
        pytest.raises(urllib3.exceptions.HTTPError),
    ):
        client.offer({})
    receiver.close()


def test_upstream_serves_records_and_asks_for_its_headers(upstream: Upstream) -> None:
    upstream.field = "tickets"
    upstream.serve([{"id": 1}])
    upstream.headers_required = {"Authorization": "Bearer x"}
    with IngestClient(upstream.url) as client:
        assert client.get("/v1").status == 401
        assert client.get("/v1", Authorization="Bearer x").body == {"tickets": [{"id": 1}]}


def test_bodies_arrive_as_sent_chunked_and_compressed(receiver: WebhookReceiver) -> None:
    with IngestClient(receiver.url) as client:
        client.post(iter([b'{"a"', b": 1}"]))
        client.post(gzipped(b"x"), Content_Encoding="gzip")
    first, second = receiver.seen()
    assert first.json == {"a": 1}
    assert second.headers["content-encoding"] == "gzip"
    assert second.body == gzipped(b"x")


def test_half_a_request_is_not_recorded(receiver: WebhookReceiver) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    assert raw_exchange(receiver.port, head + b"half", half_close=True) == b""
    assert receiver.seen() == []


def test_raw_bytes_get_a_status_or_a_hang_up(receiver: WebhookReceiver) -> None:
    good = raw_exchange(receiver.port, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert status_of(good) == 200
    assert status_of(b"") == 0


def test_messages_carry_the_payload_as_value_or_as_text() -> None:
    assert message("t", "k", {"a": 1}) == {"topic": "t", "key": "k", "payload": {"a": 1}}
    assert message("t", "k", {"a": 1}, as_text=True)["payload"] == '{"a": 1}'
    assert message("t", "k", "x")["payload"] == '"x"'
    assert message("t", "k", None, 5, as_text=True) == {
        "topic": "t",
        "key": "k",
        "payload": None,
        "timestamp": 5,
    }


_STREAM = (
    b": hello\n\nid: e-1\nevent: join_result\ndata: {\"query\": \"j\",\ndata: \"n\": 1}\n\n"
    b"event: empty\n\nid: e-2\ndata:plain\r\n\r\n"
)  # fmt: skip


def test_the_subscriber_reads_an_event_stream_as_a_browser_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked: list[bytes] = []
        server = threading.Thread(target=_serve_stream, args=(listener, asked), daemon=True)
        server.start()
        port = listener.getsockname()[1]
        with Subscriber(
            f"http://127.0.0.1:{port}", "a b", last_event_id="e-0", replay=True
        ) as stream:
            assert stream.wait_results(1) == [{"query": "j", "n": 1}]
            stream.wait_closed()
            assert [(e.name, e.id) for e in stream.events] == [
                ("join_result", "e-1"),
                ("message", "e-2"),
            ]
            assert [text for _, text in stream.comments] == ["hello"]
            with pytest.raises(AssertionError, match="stream ended"):
                stream.wait_results(2)
        server.join(5)
    assert asked[0].startswith(b"GET /subscribe?join=a%20b&replay=true HTTP/1.1\r\n")
    assert b"Last-Event-ID: e-0\r\n" in asked[0]


def _serve_stream(listener: socket.socket, asked: list[bytes]) -> None:
    conn, _ = listener.accept()
    with conn:
        asked.append(conn.recv(65536))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        conn.sendall(head)
        for part in (_STREAM[:25], _STREAM[25:]):
            conn.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        conn.sendall(b"0\r\n\r\n")


def test_a_snapshot_carries_its_position(receiver: WebhookReceiver) -> None:
    receiver.always(Reply(200, b"[]", {"LiteJoin-Position": "e-7"}))
    answer = snapshot(receiver.url, "j", from_="1", keys="a,b")
    assert (answer.status, answer.position, answer.results) == (200, "e-7", [])
    assert receiver.seen()[0].path == "/snapshot?join=j&from=1&keys=a%2Cb"
    receiver.always(json_reply({"error": "no"}, 400))
    assert snapshot(receiver.url, "j").results == {"error": "no"}
