"""`Service`: a loopback API of a real product's shape, over records that a test changes at will.

A shape (`tests.services.shapes`) says how a request names a page and how a page looks; the service
owns the records, the walk that a client is on, and the faults that a test puts on single pages.
Nothing here knows LiteJoin.
"""

import base64
import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.harness.scripted import Reply, Request, ScriptedServer
from tests.harness.waiting import eventually

Record = dict[str, Any]
Fault = Reply | Callable[[Reply], Reply]
"""What a page becomes: a reply of its own, or a change of the one that it would have been."""


class BadCursor(Exception):
    """The client sent a cursor that this service never gave out."""


@dataclass(frozen=True)
class Page:
    """One page, before a shape renders it. `start` is its position in the list of now."""

    records: list[Record]
    start: int
    more: bool
    total: int
    request: Request


class Service(ScriptedServer):
    """One list of records, served page by page.

    `by_key`: pages follow the key (keyset), so a record that is there all the time is on exactly
    one page; else they follow the position, and shift while records come and go.
    """

    name: ClassVar[str]
    """Also the name of its example, `examples/apis/NAME.yaml`."""
    origin: ClassVar[str]
    """The origin that the example names, which a test replaces by `url`."""
    path: ClassVar[str] = "/"
    key: ClassVar[str] = "id"
    secrets: ClassVar[Mapping[str, str]] = {}
    """Variables of the example."""
    needs: ClassVar[Mapping[str, str]] = {}
    """Header name (lower case) -> value that every request must carry."""
    by_key: ClassVar[bool] = False
    paged: ClassVar[bool] = True
    resumes: ClassVar[bool] = False
    """A client may begin where its last walk ended, so a token can name a first page."""

    def __init__(self, count: int = 8, page_size: int = 3) -> None:
        self.page_size = page_size
        self.records: list[Record] = []
        self.walks = 0
        """First pages asked for."""
        self.completed = 0
        """The number of the last walk that was shown to its end."""
        self._ended = True
        self._edits = 0
        self._step: Callable[[], None] | None = None
        self._on_page: defaultdict[int, deque[Fault]] = defaultdict(deque)
        self._asked: tuple[str, bytes] | None = None
        self._page_number = 0
        self._lock = threading.RLock()
        super().__init__(self._serve)
        self.set([self.make(number) for number in range(1, count + 1)])

    # -- what a shape says -------------------------------------------------------------------------

    def make(self, number: int) -> Record:
        """The record with this number, as a real API would show it."""
        raise NotImplementedError

    def token(self, request: Request) -> str | None:
        """What names the page in a request; None: the first."""
        raise NotImplementedError

    def render(self, page: Page) -> Reply:
        """The answer that shows a page."""
        raise NotImplementedError

    def route(self, request: Request) -> Reply | None:
        """Hook: answers what is not a page of the list (token endpoints)."""
        return None

    def touch(self, record: Record, edit: int) -> Record:
        """The record after one edit upstream."""
        return {**record, "updated_at": f"2026-03-01T00:00:{edit % 60:02d}.{edit:06d}Z"}

    # -- the records -------------------------------------------------------------------------------

    def set(self, records: Iterable[Record]) -> None:
        with self._lock:
            self.records = list(records)
            self._sort()

    def _sort(self) -> None:
        if self.by_key:
            self.records.sort(key=self.key_of)

    def key_of(self, record: Record) -> str:
        return str(record[self.key])

    def edit(self, *positions: int) -> list[str]:
        """Change the records at these positions; returns their keys."""
        with self._lock:
            for position in positions:
                self._edits += 1
                self.records[position] = self.touch(self.records[position], self._edits)
            return [self.key_of(self.records[position]) for position in positions]

    def remove(self, position: int) -> str:
        """Delete a record; returns its key."""
        with self._lock:
            return self.key_of(self.records.pop(position))

    def insert(self, position: int, number: int) -> str:
        """Add record `number` (a shape by key puts it where it belongs); returns its key."""
        with self._lock:
            record = self.make(number)
            self.records.insert(position, record)
            self._sort()
            return self.key_of(record)

    def contents(self) -> dict[str, Record]:
        """What a client must end up with: key -> record."""
        with self._lock:
            return {self.key_of(record): record for record in self.records}

    # -- faults and walks --------------------------------------------------------------------------

    def on_page(self, number: int, *faults: Fault) -> None:
        """What the next requests for page `number` (from 1) get instead; a retry counts as one."""
        with self._lock:
            self._on_page[number].extend(faults)

    def between_walks(self, step: Callable[[], None]) -> None:
        """Run `step` at the start of the next walk, before its first page is made."""
        with self._lock:
            self._step = step

    @property
    def wrote(self) -> bool:
        """Whether the last `between_walks` has run."""
        return self._step is None

    def calm(self) -> None:
        """Forget the faults that nobody ran into."""
        with self._lock:
            self._on_page.clear()

    def wait_complete(self, more: int = 1, timeout_s: float = 20.0) -> None:
        """Wait until `more` walks that start from now on have been shown to their end."""
        goal = self.walks + more  # the one under way may have seen pages of before
        eventually(lambda: self.completed >= goal, timeout_s)

    # -- serving -----------------------------------------------------------------------------------

    def _serve(self, request: Request) -> Reply:
        with self._lock:
            routed = self.route(request)
            if routed is not None:
                return routed
            refused = self._refuse(request)
            if refused is not None:
                return refused
            try:
                token = self.token(request)
                number = self._count(request, token)
                reply, ended = self.show(request, token)
            except BadCursor as error:
                return answer({"error": f"invalid cursor {error}"}, 400)
            faults = self._on_page[number]
            if faults:
                fault = faults.popleft()
                return fault if isinstance(fault, Reply) else fault(reply)
            self._ended = ended
            if ended:
                self.completed = self.walks
            return reply

    def _refuse(self, request: Request) -> Reply | None:
        for name, value in self.needs.items():
            if request.headers.get(name) != value:
                return answer({"message": "Bad credentials"}, 401)
        return None

    def _count(self, request: Request, token: str | None) -> int:
        """The number of the page in the client's walk, from 1; a repeated request is one page."""
        asked = (request.path, request.body)
        if token is None or (self.resumes and self._ended):
            self.walks += 1
            self._page_number = 1
            if self._step is not None:
                self._step()
                self._step = None
        elif asked != self._asked:
            self._page_number += 1
        self._asked, self._ended = asked, False
        return self._page_number

    def show(self, request: Request, token: str | None) -> tuple[Reply, bool]:
        """The page that a token names, and whether it is the last."""
        start = 0 if token is None else self.position(token)
        stop = start + self.page_size if self.paged else len(self.records)
        more = stop < len(self.records)
        page = Page(self.records[start:stop], start, more, len(self.records), request)
        return self.render(page), not more

    def position(self, token: str) -> int:
        """Where the page with this token starts now."""
        if not self.by_key:
            return int(open_token(token))
        last = open_token(token)
        return sum(self.key_of(record) <= last for record in self.records)

    def next_token(self, page: Page) -> str:
        """The token of the page after `page`."""
        if self.by_key:
            return seal(self.key_of(page.records[-1]))
        return seal(str(page.start + len(page.records)))


def seal(text: str) -> str:
    """An opaque token, as real services hand them out: base64 with padding."""
    return base64.b64encode(f"v1:{text}".encode()).decode()


def open_token(token: str) -> str:
    try:
        version, _, text = base64.b64decode(token, validate=True).decode().partition(":")
    except ValueError:
        raise BadCursor(token) from None
    if version != "v1":
        raise BadCursor(token)
    return text


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON reply with more headers."""
    body = json.dumps(value, ensure_ascii=False).encode()
    return Reply(
        status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    )


def query(request: Request) -> dict[str, str]:
    """The query parameters; the first of each name."""
    parsed = parse_qs(urlsplit(request.path).query, keep_blank_values=True)
    return {name: values[0] for name, values in parsed.items()}


def with_query(url: str, request: Request, **changes: str) -> str:
    """`url` with the request's own query, some parameters changed."""
    return f"{url}?{urlencode({**query(request), **changes})}"
