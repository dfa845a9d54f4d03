"""What a source believes to be known was stored before: rows, deletes, bodies and watermarks."""

from typing import Any

import pytest

from litejoin.errors import StorageFullError
from litejoin.plan.nodes_api import PagingPlan, WatermarkPlan
from litejoin.records import RowKind, unpack_rows
from litejoin.sources.api.transport import Response
from tests.unit.sources.api_pages import Api, Asked, page, run

ETAG = WatermarkPlan("etag")
NEXT = PagingPlan("next_url", path="next", max_pages=100)
UPDATED = WatermarkPlan("timestamp", path="at", param="since", lookback_ms=5_000)


def numbered(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": n, **more} for n in numbers]


def test_a_body_from_before_a_walk_that_broke_off_is_compared_again() -> None:
    """Its first page was stored, so the body of before it is news."""
    old, new = {"rows": numbered(1, v=1)}, {"rows": numbered(1, v=2), "next": "/2"}

    async def story(api: Api) -> None:
        await api.poll()

        def broken(asked: Asked) -> Response:
            return page({}, 500) if asked.path == "/2" else page(new)

        api.wire.handler = broken
        assert await api.poll() == [("UPSERT", "1")]
        assert not api.ok
        api.wire.handler = lambda _: page(old)
        assert await api.poll() == [("UPSERT", "1")]
        assert await api.poll() == []

    run(story, lambda _: page(old), response_path="rows", paging=NEXT)


class Versioned:
    """A list with an ETag, which is its version."""

    def __init__(self, **kept: dict[str, Any]) -> None:
        self.kept = kept
        self.version = "a"

    def __call__(self, asked: Asked) -> Response:
        if asked.path == "/2":
            return page({}, 500)
        if asked.headers.get("if-none-match") == self.version:
            return page(b"", 304)
        return page(self.kept[self.version], etag=self.version)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_304_does_not_stand_for_deletes_that_were_not_stored(restarts: bool) -> None:
    server = Versioned(a={"rows": numbered(*range(20))}, b={"rows": numbered(*range(1, 20))})

    async def story(api: Api) -> None:
        submit = api.store.submit

        async def full(batch: bytes, rows: int, *, piecewise: bool = False) -> None:
            if any(row.kind is RowKind.DELETE for row in unpack_rows(batch)):
                raise StorageFullError("full")
            await submit(batch, rows, piecewise=piecewise)

        await api.poll()
        server.version = "b"
        api.store.submit = full  # type: ignore[method-assign]
        assert await api.poll() == []
        assert not api.ok
        api.store.submit = submit  # type: ignore[method-assign]
        if restarts:
            api.restart()
        assert await api.poll() == [("DELETE", "0")]

    run(story, server, watermark=ETAG, response_path="rows", detect_deletes=True)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_304_does_not_stand_for_rows_of_a_walk_that_broke_off(restarts: bool) -> None:
    server = Versioned(a={"rows": numbered(1, v=1)}, b={"rows": numbered(1, v=2), "next": "/2"})

    async def story(api: Api) -> None:
        await api.poll()
        server.version = "b"
        assert await api.poll() == [("UPSERT", "1")]
        assert not api.ok
        if restarts:
            api.restart()
        server.version = "a"
        assert await api.poll() == [("UPSERT", "1")]
        assert await api.poll() == []
        assert api.wire.asked[0].headers["if-none-match"] == "a"

    run(story, server, watermark=ETAG, response_path="rows", paging=NEXT)


def test_a_record_whose_delete_has_an_unknown_outcome_can_come_back() -> None:
    rows = numbered(*range(20))

    async def story(api: Api) -> None:
        await api.poll()
        api.wire.handler = lambda _: page(rows[1:])
        api.store.failures = [(StorageFullError("full"), 2)]
        assert await api.poll() == [("DELETE", "0")]
        assert not api.ok
        api.wire.handler = lambda _: page(rows)
        assert await api.poll() == [("UPSERT", "0")]

    run(story, lambda _: page(rows), detect_deletes=True)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_watermark_does_not_move_over_pages_that_a_cap_left_out(restarts: bool) -> None:
    rows = [{"id": n, "at": f"2024-01-01T00:00:{n:02d}Z"} for n in range(10)]

    def handler(asked: Asked) -> Response:
        since = asked.params.get("since", "")
        at = int(asked.params["page"]) * 4
        return page([r for r in rows if r["at"] >= since][::-1][at : at + 4])

    async def story(api: Api) -> None:
        await api.poll()
        assert "max_pages" in api.incomplete
        assert api.keys == [str(n) for n in range(2, 10)]
        if restarts:
            api.restart()
        await api.poll()
        assert "since" not in api.wire.asked[0].params

    paging = PagingPlan("page", param="page", stop_after_empty_page=True, max_pages=2)
    plan = WatermarkPlan("timestamp", path="at", param="since")
    run(story, handler, watermark=plan, paging=paging)


def test_a_watermark_does_not_go_back_to_the_older_records_of_a_lookback() -> None:
    def at(second: int) -> str:
        return f"2024-01-01T00:00:{second:02d}.500Z"

    async def story(api: Api) -> None:
        await api.poll()
        api.wire.handler = lambda _: page([{"id": 2, "at": at(27)}])  # 1 is not there any more
        await api.poll()
        await api.poll()
        assert api.wire.asked[0].params["since"] == at(25)

    run(story, lambda _: page([{"id": 1, "at": at(30)}]), watermark=UPDATED)
