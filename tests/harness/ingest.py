"""A client of `POST /ingest`: polite requests through urllib3, rude ones through a bare socket."""

import gzip
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3

JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. `body` is the parsed JSON, or the text when it is not JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any

    def refusal(self) -> str:
        """The text of a 4xx/5xx answer in the documented form; fails when it has another form."""
        assert 400 <= self.status < 600, self
        assert isinstance(self.body, dict), f"not the documented JSON error: {self}"
        assert isinstance(self.body.get("error"), str) and self.body["error"], f"no reason: {self}"
        assert str(self.body.get("code", "")).startswith("LJ"), f"no LJ code: {self}"
        return str(self.body["error"])


def message(
    topic: str, key: str, payload: Any, timestamp: Any = None, *, as_text: bool = False
) -> dict[str, Any]:
    """One row for /ingest; `payload` is a JSON value, None deletes.

    `as_text` sends it as a JSON string, the original's form. A payload that is a text goes so too:
    in place it would be taken for JSON text.
    """
    row: dict[str, Any] = {"topic": topic, "key": key, "payload": payload}
    if isinstance(payload, str) or (as_text and payload is not None):
        row["payload"] = json.dumps(payload, ensure_ascii=False)
    if timestamp is not None:
        row["timestamp"] = timestamp
    return row


class IngestClient:
    """One keep-alive client. Use one per thread."""

    def __init__(self, url: str, *, timeout_s: float = 30.0, token: str = "") -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(retries=False, timeout=timeout_s, maxsize=1)

    def __enter__(self) -> "IngestClient":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._pool.clear()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Any request. Raises urllib3's HTTPError when no answer comes back."""
        chunked = body is not None and not isinstance(body, bytes)
        response = self._pool.request(
            method,
            self.url + path,
            body=body,
            headers={**self._headers, **(headers or {})},
            chunked=chunked,
        )
        return Answer(response.status, response.headers, _parsed(response.data))

    def post(
        self,
        body: bytes | Iterable[bytes],
        *,
        content_type: str = JSON,
        path: str = "/ingest",
        **headers: str,
    ) -> Answer:
        """POST raw bytes. Header names are given with underscores (`Idempotency_Key="x"`)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, body, {"Content-Type": content_type, **named})

    def offer(self, rows: list[dict[str, Any]] | dict[str, Any], **headers: str) -> Answer:
        """POST rows as JSON and return whatever the answer is."""
        return self.post(json.dumps(rows, ensure_ascii=False).encode(), **headers)

    def send(self, rows: list[dict[str, Any]] | dict[str, Any], **headers: str) -> None:
        """POST rows and expect the ack of them all."""
        answer = self.offer(rows, **headers)
        count = len(rows) if isinstance(rows, list) else 1
        assert answer.status == 200, answer
        assert answer.body["accepted"] == count, answer

    def get(self, path: str, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", path, headers=named)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1)


def raw_exchange(
    port: int, data: bytes, *, timeout_s: float = 5.0, half_close: bool = False
) -> bytes:
    """Send bytes as they are; what came back until the server closed or `timeout_s` passed."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as conn:
        received = b""
        try:
            conn.sendall(data)
            if half_close:
                conn.shutdown(socket.SHUT_WR)
            while chunk := conn.recv(65536):
                received += chunk
        except (TimeoutError, ConnectionError):
            pass
        return received


def status_of(response: bytes) -> int:
    """The status code of raw response bytes; 0 when the server hung up without one."""
    parts = response.split(b" ", 2)
    return int(parts[1]) if len(parts) > 1 and parts[0].startswith(b"HTTP/1.") else 0
