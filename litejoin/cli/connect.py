"""`validate --connect`: can what a config names be reached from here? One line a source or sink,
and one for the archive's bucket and the replica.

Asks as little as it can: a GET source is fetched once, as a poll would; brokers of Kafka are asked
for their topics; of everything else it only opens a connection (and TLS), so nothing is delivered,
created or consumed. Redirects are not followed. Answers are never shown, URLs only as the config
writes them.
"""

import os
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from litejoin.cli.probes import TIMEOUT_SECONDS, Level, Probe, Problem
from litejoin.clock import SystemClock
from litejoin.config import Document
from litejoin.config.text import printable
from litejoin.config.values import parse_address
from litejoin.errors import ConfigError
from litejoin.kafka import connection_options, load_client, redacted
from litejoin.plain_files import check_plain
from litejoin.plan.compile_sources import (
    headers_of,
    kafka_options,
    kafka_security,
    url_as_written,
)
from litejoin.plan.section import Section

MAX_THREADS = 8
MAX_ANSWER_BYTES = 64 * 1024
"""Read of an answer, to see that it comes; what it holds is for the poll to judge."""

_FAILURES = (OSError, ValueError)
"""What connecting raises; ValueError is for hosts and headers that cannot be written."""


def probe(document: Document) -> list[Probe]:
    """Probe every source and sink of a sound config, in its order, and where copies of the data go.

    Blocking, some seconds.
    """
    root = Section(document)
    tasks = [("source", section) for section in root.sections("sources")]
    tasks += [("sink", section) for section in root.sections("sinks")]
    archive, replication = root.section("storage").section("archive"), root.section("replication")
    if archive.flag("enabled") and archive.section("cloud").flag("enabled"):
        tasks.append(("archive", archive.section("cloud")))
    if replication.flag("enabled"):
        tasks.append(("replica", replication))
    with ThreadPoolExecutor(MAX_THREADS, "probe") as pool:
        return list(pool.map(_probe, tasks))


def lines(probes: Iterable[Probe], prefix: str = "") -> Iterator[str]:
    """The lines that `validate` prints."""
    known = list(probes)
    width = max((len(each.subject) for each in known), default=0)
    for each in known:
        yield f"{prefix}{each.level:<4}  {each.subject:<{width}}  {printable(each.text)}\n"


def _probe(task: tuple[str, Section]) -> Probe:
    kind, section = task
    subject = f"{kind} {section.text('name')}".strip()
    check = _copies(kind) or _CHECKS.get((kind, section.text("type")))
    if check is None:
        return Probe("warn", subject, f"not probed: {section.text('type')}")
    try:
        return Probe("ok", subject, check(section))
    except Problem as problem:
        return Probe(problem.level, subject, problem.text)


def _copies(kind: str) -> Callable[[Section], str] | None:
    if kind not in ("archive", "replica"):
        return None
    from litejoin.cli import connect_storage  # only who has copies pays for it

    return connect_storage.archive_bucket if kind == "archive" else connect_storage.replica


# What is done for each type: returns what to tell when all is well


def _api_source(source: Section) -> str:
    api = source.section("api")
    shown = url_as_written(api, "url")
    if "{" in api.text("url"):
        raise Problem("warn", f"not probed: {shown} is filled in from another topic")
    if api.text("method") != "GET":
        return f"{_reach_url(api, shown)}; {api.text('method')} is not tried"
    status, milliseconds = _get(api, shown)
    level, meaning = _meaning(status, api.section("auth").text("type"))
    text = f"GET {shown}: {status} in {milliseconds} ms{meaning}"
    if level != "ok":
        raise Problem(level, text)
    return text


def _meaning(status: int, auth: str) -> tuple[Level, str]:
    if status < 300 or status == 304:
        return "ok", ""
    if status < 400:
        return "warn", ", a redirect; redirects are not followed"
    if status in (401, 403) and auth not in _SIMPLE_AUTH:
        return "warn", f"; auth of type {auth} is not tried here"
    if status in (401, 403):
        return "fail", ", not authorized"
    if status == 429 or status >= 500:
        return "warn", ", it may work later"
    return "fail", ""


def _get(api: Section, shown: str) -> tuple[int, int]:
    import urllib3  # only with --connect

    headers, query = _credentials(api)
    url, context = api.text("url"), _tls(api, shown)
    if query:
        url += ("&" if "?" in url else "?") + urlencode(query)
    proxy = api.maybe_text("proxy")
    timeout = urllib3.Timeout(TIMEOUT_SECONDS)
    pool: urllib3.PoolManager = urllib3.PoolManager(ssl_context=context, timeout=timeout)
    if proxy:
        pool = urllib3.ProxyManager(proxy, ssl_context=context, timeout=timeout)
    clock = SystemClock()
    started_ms = clock.monotonic_ms()
    try:
        answer = pool.request(
            "GET", url, headers=headers, redirect=False, retries=False, preload_content=False
        )
        answer.read(MAX_ANSWER_BYTES, decode_content=False)
        answer.close()
    except (urllib3.exceptions.HTTPError, *_FAILURES) as error:
        raise Problem("fail", f"{shown}: {_reason(error)}") from None
    finally:
        pool.clear()
    return answer.status, clock.monotonic_ms() - started_ms


_SIMPLE_AUTH = ("", "bearer", "basic", "api_key")


def _credentials(api: Section) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and query parameters, those of a simple `auth` included."""
    headers = {name: str(value) for name, value in headers_of(api).items()}
    query = {name: str(value) for name, value in api.section("params").value.items()}
    auth = api.section("auth")
    kind = auth.text("type")
    if kind == "bearer":
        headers["Authorization"] = f"Bearer {auth.text('token')}"
    elif kind == "basic":
        from base64 import b64encode

        pair = f"{auth.text('username')}:{auth.text('password')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    elif kind == "api_key":
        name, value, where = auth.text("name"), auth.text("value"), auth.text("in")
        if where == "query":
            query[name] = value
        else:
            headers["Cookie" if where == "cookie" else name] = (
                f"{name}={value}" if where == "cookie" else value
            )
    return headers, query


def _http_sink(sink: Section) -> str:
    config = sink.section("config")
    return f"{_reach_url(config, url_as_written(config, 'url'))}; nothing is sent"


def _reach_url(config: Section, shown: str) -> str:
    """Connect, with TLS where the URL has it."""
    parts = urlsplit(config.text("url"))
    port = parts.port or (443 if parts.scheme == "https" else 80)
    context = _tls(config, shown) if parts.scheme == "https" else None
    try:
        with _connected(parts.hostname or "", port) as connection:
            if context is not None:
                context.wrap_socket(connection, server_hostname=parts.hostname).close()
    except _FAILURES as error:
        raise Problem("fail", f"{shown}: {_reason(error)}") from None
    return f"{shown} accepts connections"


def _tls(config: Section, shown: str) -> ssl.SSLContext:
    tls = config.section("tls")
    try:
        check_plain(*(tls.maybe_text(key) for key in ("ca_file", "cert_file", "key_file")))
        context = ssl.create_default_context(cafile=tls.maybe_text("ca_file"))
        if tls.has("cert_file"):
            context.load_cert_chain(tls.text("cert_file"), tls.maybe_text("key_file"))
    except OSError as error:
        raise Problem("fail", f"{shown}: the TLS files: {_reason(error)}") from None
    if not tls.value.get("verify", True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _brokers(section: Section) -> str:
    """One broker that answers is enough for a client; all are tried."""
    down: list[str] = []
    brokers = [broker.strip() for broker in section.section("config").text("brokers").split(",")]
    for broker in brokers:
        host, _, port = broker.rpartition(":")
        try:
            _connected(host.strip("[]"), int(port)).close()
        except _FAILURES as error:
            down.append(f"{broker}: {_reason(error)}")
    if down:
        raise Problem("fail" if len(down) == len(brokers) else "warn", "; ".join(down))
    return f"{', '.join(brokers)} accept connections"


def _kafka(section: Section) -> str:
    """Brokers by TCP, then as a client: credentials are accepted, and the topics are there."""
    reached = _brokers(section)
    try:
        client = load_client()
    except ConfigError as error:
        raise Problem("warn", f"{reached}; {error}") from None
    config = section.section("config")
    options, security = kafka_options(config), kafka_security(config)
    asked = {**connection_options(config.text("brokers"), security), **options}
    try:
        admin = client.admin.AdminClient(asked)
        found = admin.list_topics(timeout=TIMEOUT_SECONDS).topics
    except (client.KafkaException, TypeError, ValueError) as error:
        text = redacted(str(error.args[0]), options)
        raise Problem("fail", f"{reached}, but do not answer a client: {text}") from None
    names = section.texts("topics") if section.has("topics") else (config.text("topic"),)
    missing = [name for name in names if name[0] != "^" and name not in found]
    if missing:
        raise Problem("warn", f"{reached}, but have no topic {', '.join(missing)}")
    return f"{reached} and answer"


def _listener(section: Section) -> str:
    """Tries to listen; in use may as well mean that the pipeline is running."""
    address = parse_address(section.section("config").text("addr"))
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address.host, address.port))
            listening.listen(1)
        except OSError as error:
            raise Problem("warn", f"cannot listen on {address}: {_reason(error)}") from None
    return f"{address} is free"


def _file(sink: Section) -> str:
    """Looks only: a data file of SQLite must not be opened besides SQLite."""
    path = Path(sink.section("config").text("path"))
    if path.exists():
        if path.is_file() and os.access(path, os.W_OK):
            return f"{path} exists and can be written"
        raise Problem("fail", f"{path} is no file that can be written")
    if not path.parent.is_dir():
        raise Problem("warn", f"the directory {path.parent} does not exist yet")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise Problem("fail", f"nothing can be created in {path.parent}")
    return f"{path} can be created"


_DSN_HOST = re.compile(r"(?:^|\s)host\s*=\s*'?([^\s']+)")
_DSN_PORT = re.compile(r"(?:^|\s)port\s*=\s*'?(\d+)")


def _postgres(sink: Section) -> str:
    dsn = sink.section("config").text("dsn")
    try:
        parts = urlsplit(dsn) if "://" in dsn else None
        host, port = (parts.hostname, parts.port) if parts else (None, None)
    except ValueError:
        raise Problem("fail", "the connection string cannot be read") from None
    if parts is None:
        in_host, in_port = _DSN_HOST.search(dsn), _DSN_PORT.search(dsn)
        host, port = in_host and in_host[1], in_port and int(in_port[1])
    if not host or host.startswith("/"):
        raise Problem("warn", "not probed: a local socket")
    try:
        _connected(host, port or 5432).close()
    except _FAILURES as error:
        raise Problem("fail", f"{host}:{port or 5432}: {_reason(error)}") from None
    return f"{host}:{port or 5432} accepts connections"


def _stdout(_: Section) -> str:
    return "standard output"


_CHECKS: dict[tuple[str, str], Callable[[Section], str]] = {
    ("source", "api"): _api_source,
    ("source", "http"): _listener,
    ("source", "kafka"): _kafka,
    ("sink", "http"): _http_sink,
    ("sink", "sse"): _listener,
    ("sink", "kafka"): _kafka,
    ("sink", "sqlite"): _file,
    ("sink", "file"): _file,
    ("sink", "postgres"): _postgres,
    ("sink", "stdout"): _stdout,
}


def _connected(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), timeout=TIMEOUT_SECONDS)


def _reason(error: BaseException) -> str:
    """Why, in words and without the request, which may hold a secret."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or 'no handshake'}"
        if isinstance(cause, TimeoutError):
            return f"no answer in {TIMEOUT_SECONDS:g} s"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror[:1].lower() + cause.strerror[1:]
        cause = cause.__cause__ or cause.__context__
    return "timed out" if "imeout" in type(error).__name__ else f"failed ({type(error).__name__})"
