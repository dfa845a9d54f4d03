"""What waits for one subscriber, and the position that it resumes from."""

from litejoin.sinks.sse import hub
from litejoin.sinks.sse.client import Client
from litejoin.sinks.sse.params import Filter


def test_a_client_stands_at_the_last_of_the_chunks_it_took() -> None:
    """When it falls behind it reads the log from there: nothing comes twice."""
    client = Client(Filter(frozenset({"orders"}), None))
    client.attached = True
    assert client.take() == b""
    assert client.offer(b"one", 1)
    assert client.offer(b"two", 2)
    assert (client.take(), client.pos) == (b"onetwo", 2)
    assert client.offer(b"three", 7)
    assert (client.take(), client.pos) == (b"three", 7)


def test_heartbeats_come_as_often_as_is_promised() -> None:
    assert hub.HEARTBEAT_S == 15.0
