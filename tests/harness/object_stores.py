"""Real servers that speak the protocols of S3 (moto), Google Cloud Storage (gcp-storage-emulator)
and Azure (azurite), each behind a proxy that can be told to fail.

They keep everything in memory. Clients are given the proxy's address.
"""

import base64
import hashlib
import hmac
import http.client
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from email.utils import formatdate
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3

from litejoin.archive.cloud import CloudSettings, ObjectStore
from tests.harness.ports import free_port
from tests.harness.waiting import eventually

BUCKET, PREFIX = "rows", "pre"
PROVIDERS = ("s3", "gcs", "azure")
AZURITE = Path(__file__).parents[2] / ".venv/azurite/node_modules/azurite/dist/src/blob/main.js"
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""The one account of azurite, documented by it: not a secret."""

AZURE_VERSION = "2021-08-06"


class Fault(Enum):
    """What the proxy does to requests of some methods, in place of passing them on as they are."""

    SAY_500 = auto()
    SAY_403 = auto()
    CUT_UPLOAD = auto()
    """The connection ends in the middle of a request with a body; the store never sees it."""
    CUT_DOWNLOAD = auto()
    """The connection ends in the middle of an answer."""
    GARBLE = auto()
    """One bit of what is read is another one."""


_ABOUT = {Fault.CUT_UPLOAD: "PUT", Fault.CUT_DOWNLOAD: "GET", Fault.GARBLE: "GET"}
_STATUS = {Fault.SAY_500: 500, Fault.SAY_403: 403}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Proxy"

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.note(self.command, self.path)
        if fault in _STATUS:
            self._send(_STATUS[fault], {}, b"no")
            return
        if fault is Fault.CUT_UPLOAD:
            self.close_connection = True
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        try:
            path = self.path
            if self.server.provider == "gcs" and self.command == "DELETE":
                # The emulator deletes through the JSON API only.
                path = f"/storage/v1/b/{BUCKET}/o/{path.removeprefix(f'/{BUCKET}/')}"
            upstream.request(self.command, path, body, dict(self.headers))
            answer = upstream.getresponse()
            found = answer.read()
        finally:
            upstream.close()
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
        if self.server.provider == "gcs" and answer.status < 300:
            # What the emulator leaves out, and the real service never.
            headers["ETag"] = f'"{hashlib.md5(found).hexdigest()}"'
            headers["Last-Modified"] = formatdate(usegmt=True)
        if fault is Fault.GARBLE and answer.status < 300 and found:
            middle = len(found) // 2
            found = found[:middle] + bytes([found[middle] ^ 1]) + found[middle + 1 :]
        is_cut = fault is Fault.CUT_DOWNLOAD and answer.status < 300
        size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(found))
        self._send(answer.status, headers, found[: len(found) // 2] if is_cut else found, size)
        if is_cut:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def _send(
        self, status: int, headers: Mapping[str, str], body: bytes, size: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", size or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive", "date", "server"}


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, provider: str, upstream: int) -> None:
        super().__init__(("127.0.0.1", free_port()), _Handler)
        self.provider, self.upstream = provider, upstream
        self.fault: Fault | None = None
        self.calls: list[tuple[str, str]] = []
        self.hook: Callable[[str], None] = lambda method: None

    def note(self, method: str, path: str) -> Fault | None:
        """Count the request; what is to happen to it."""
        self.calls.append((method, path))
        self.hook(method)
        fault = self.fault
        return fault if fault and _ABOUT.get(fault, method) == method else None

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that were killed


class StoreServer:
    """One store with an empty bucket, and its proxy."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self._port = free_port()
        self._child = subprocess.Popen(
            _command(provider, self._port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._proxy = _Proxy(provider, self._port)
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        try:
            eventually(self._is_ready, 60)
        except BaseException:
            self.stop()
            raise

    def _is_ready(self) -> bool:
        assert self._child.poll() is None, f"the {self.provider} server has ended"
        url = f"http://127.0.0.1:{self._port}"
        make = _MAKE_BUCKET[self.provider]
        try:
            return make(url) < 300
        except urllib3.exceptions.HTTPError:
            return False

    @property
    def endpoint(self) -> str:
        """What clients connect to."""
        at = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        return f"{at}/{ACCOUNT}" if self.provider == "azure" else at

    @property
    def settings(self) -> CloudSettings:
        """For clients in this process."""
        options = CREDENTIALS[self.provider]
        return CloudSettings(self.provider, BUCKET, PREFIX, "", self.endpoint, options)

    @property
    def config(self) -> dict[str, object]:
        """`storage.archive.cloud` of a config."""
        return {
            "enabled": True, "provider": self.provider, "bucket": BUCKET, "prefix": PREFIX,
            "endpoint": self.endpoint, **CREDENTIALS[self.provider],
        }  # fmt: skip

    def objects(self) -> dict[str, bytes]:
        """What is in the bucket, without the prefix."""
        store = ObjectStore(self.settings)
        return {name: b"".join(map(bytes, store.pieces(name))) for name in self._names(store)}

    def _names(self, store: ObjectStore) -> list[str]:
        if self.provider != "gcs":
            return [meta["path"] for page in store._module.list(store._store) for meta in page]
        url = f"http://127.0.0.1:{self._port}/storage/v1/b/{BUCKET}/o"
        items = urllib3.request("GET", url, retries=False).json().get("items", [])
        return [item["name"].removeprefix(f"{PREFIX}/") for item in items]

    def put(self, name: str, data: bytes, folder: Path) -> None:
        """Put an object, over whatever there is."""
        path = folder / "object"
        path.write_bytes(data)
        ObjectStore(self.settings).put(name, path)

    def fail(self, fault: Fault) -> None:
        """Let requests fail from now on."""
        self._proxy.fault = fault

    def on_request(self, hook: Callable[[str], None]) -> None:
        """Call `hook` with the method of each request, before it is passed on."""
        self._proxy.hook = hook

    def heal(self) -> None:
        """Let requests through."""
        self._proxy.fault = None

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Methods and paths of all requests so far."""
        return list(self._proxy.calls)

    def stop(self) -> None:
        """End it."""
        self._proxy.shutdown()
        self._proxy.server_close()
        self._child.kill()
        self._child.wait(10)


CREDENTIALS: dict[str, dict[str, str]] = {
    "s3": {"access_key_id": "key", "secret_access_key": "very-secret-key"},
    "gcs": {},
    "azure": {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY},
}
"""By the names of the config, which are obstore's."""


def _command(provider: str, port: int) -> list[str]:
    bin_dir = Path(sys.executable).parent
    if provider == "s3":
        return [str(bin_dir / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    if provider == "gcs":
        return [str(bin_dir / "gcp-storage-emulator"), "start", "--host=127.0.0.1",
                f"--port={port}", "--in-memory"]  # fmt: skip
    assert AZURITE.exists(), "azurite is missing: make .venv/.azurite"
    return ["node", str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port),
            "--inMemoryPersistence", "--silent", "--skipApiVersionCheck"]  # fmt: skip


def _make_s3(url: str) -> int:
    return urllib3.request("PUT", f"{url}/{BUCKET}", retries=False).status


def _make_gcs(url: str) -> int:
    body = {"name": BUCKET}
    return urllib3.request("POST", f"{url}/storage/v1/b?project=p", json=body, retries=False).status


def _make_azure(url: str) -> int:
    """Signed as https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key."""
    date = formatdate(usegmt=True)
    text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{AZURE_VERSION}\n"
    text += f"/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), text.encode(), "sha256")
    headers = {
        "x-ms-date": date, "x-ms-version": AZURE_VERSION, "Content-Length": "0",
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    }  # fmt: skip
    address = f"{url}/{ACCOUNT}/{BUCKET}?restype=container"
    return urllib3.request("PUT", address, headers=headers, retries=False).status


_MAKE_BUCKET: dict[str, Callable[[str], int]] = {
    "s3": _make_s3,
    "gcs": _make_gcs,
    "azure": _make_azure,
}
