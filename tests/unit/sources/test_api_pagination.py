"""A walk fetches every page of every kind of API, and knows when it did not."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from litejoin.plan.nodes_api import PagingKind, PagingPlan
from litejoin.sources.api.pagination import linked
from litejoin.sources.api.transport import Response
from tests.unit.sources.api_pages import Api, Asked, Handler, items, page, run

N = 25
ALL = [str(n) for n in range(N)]


def sliced(start: int, size: int = 10) -> list[Any]:
    return items(start, min(start + size, N))


def by_link(asked: Asked) -> Response:
    at = int(asked.params.get("page", 1))
    more = f'<https://api.test/items?page={at + 1}&per=10>; rel="next", ' if at < 3 else ""
    return page(sliced((at - 1) * 10), link=f'{more}<https://api.test/items?page=1>; rel="first"')


def by_next_url(asked: Asked) -> Response:
    at = int(asked.params.get("skip", 0))
    return page({"d": sliced(at), "next": f"/items?skip={at + 10}" if at + 10 < N else None})


def by_cursor(asked: Asked) -> Response:
    at = int(asked.params.get("after", 0))
    more = at + 10 < N
    return page({"d": sliced(at), "meta": {"next": str(at + 10) if more else "", "more": more}})


def by_number_cursor(asked: Asked) -> Response:
    at = (asked.body or {}).get("variables", {}).get("after", 0)
    info = {"endCursor": at + 10, "hasNextPage": at + 10 < N}
    return page({"d": sliced(at), "pageInfo": info})


def by_end_flag(asked: Asked) -> Response:
    at = int(asked.params.get("after", 0))
    return page({"d": sliced(at), "after": at + 10, "end_of_stream": at + 10 >= N})


def by_header(asked: Asked) -> Response:
    at = int(asked.headers.get("x-cursor", "0"))
    more = {"x_next": str(at + 10)} if at + 10 < N else {}
    return page(sliced(at), **more)


def by_offset(asked: Asked) -> Response:
    at, size = int(asked.params["offset"]), min(int(asked.params["limit"]), 7)
    return page({"d": sliced(at, size), "total": N})


def by_offset_from_ten(asked: Asked) -> Response:
    return page({"d": sliced(int(asked.params["offset"]) - 10, 7), "total": N})


def by_page(asked: Asked) -> Response:
    at = int(asked.params["page"])
    return page({"d": sliced(at * 10), "pages": 3})


def by_path(asked: Asked) -> Response:
    return page(sliced(int(asked.path.rpartition("/")[2]) * 10))


def by_seek(asked: Asked) -> Response:
    at = int(asked.params.get("starting_after", -1)) + 1
    return page({"d": sliced(at), "has_more": at + 10 < N})


def paging(kind: PagingKind, **more: Any) -> PagingPlan:
    return PagingPlan(kind, **{"max_pages": 1000, **more})


KINDS: dict[str, tuple[Handler, dict[str, Any], str, int]] = {
    "link_header": (by_link, {"kind": "link_header"}, "", 3),
    "next_url": (by_next_url, {"kind": "next_url", "path": "next"}, "d", 3),
    "cursor": (by_cursor, {"kind": "cursor", "path": "meta.next", "param": "after"}, "d", 3),
    "cursor, has more": (
        by_cursor,
        {"kind": "cursor", "path": "meta.next", "param": "after", "has_more_path": "meta.more"},
        "d",
        3,
    ),
    "cursor in the body": (
        by_number_cursor,
        {
            "kind": "cursor", "path": "pageInfo.endCursor", "body_path": "variables.after",
            "has_more_path": "pageInfo.hasNextPage",
        },
        "d",
        3,
    ),
    "cursor, end flag": (
        by_end_flag,
        {"kind": "cursor", "path": "after", "param": "after", "end_path": "end_of_stream"},
        "d",
        3,
    ),
    "header_cursor": (
        by_header,
        {"kind": "header_cursor", "header": "X-Next", "param": "X-Cursor", "inject": "header"},
        "",
        3,
    ),
    "offset under the server's own limit": (
        by_offset,
        {
            "kind": "offset", "param": "offset", "size": 10, "size_param": "limit",
            "stop_after_empty_page": True,
        },
        "d",
        5,
    ),
    "offset with a total": (
        by_offset,
        {
            "kind": "offset", "param": "offset", "size": 10, "size_param": "limit",
            "total_path": "total", "stop_after_empty_page": True,
        },
        "d",
        4,
    ),
    "offset with a total, not from 0": (
        by_offset_from_ten,
        {
            "kind": "offset", "param": "offset", "start": 10, "total_path": "total",
            "stop_after_empty_page": True,
        },
        "d",
        4,
    ),
    "page": (by_page, {"kind": "page", "param": "page", "stop_after_empty_page": True}, "d", 4),
    "page with a total": (
        by_page, {"kind": "page", "param": "page", "total_path": "pages"}, "d", 3,
    ),
    "page until a short one": (by_page, {"kind": "page", "param": "page", "size": 10}, "d", 3),
    "page in the path": (
        by_path,
        {"kind": "page", "param": "n", "inject": "path", "stop_after_empty_page": True},
        "",
        4,
    ),
    "seek": (
        by_seek,
        {"kind": "seek", "param": "starting_after", "path": "id", "has_more_path": "has_more"},
        "d",
        3,
    ),
    "seek until an empty page": (
        by_seek, {"kind": "seek", "param": "starting_after", "path": "id"}, "d", 4,
    ),
    "auto, link": (by_link, {"kind": "auto"}, "", 3),
    "auto, next url": (by_next_url, {"kind": "auto"}, "d", 3),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_page_is_fetched_and_a_second_walk_changes_nothing(name: str) -> None:
    handler, plan, path, pages = KINDS[name]
    url = {"url": "https://api.test/items/{n}"} if name == "page in the path" else {}

    async def story(api: Api) -> None:
        await api.poll()
        assert api.keys == ALL
        assert len(api.wire.asked) == pages
        assert api.incomplete == ""
        assert await api.poll() == []
        assert len(api.wire.asked) == pages
        api.restart()
        assert await api.poll() == []

    run(story, handler, paging=paging(**plan), response_path=path, **url)


def test_a_cursor_that_auto_knows_is_followed() -> None:
    def handler(asked: Asked) -> Response:
        at = int(asked.params.get("cursor", 0))
        following = str(at + 10) if at + 10 < N else None
        return page({"data": sliced(at), "meta": {"next_cursor": following}})

    async def story(api: Api) -> None:
        await api.poll()
        assert (api.keys, len(api.wire.asked)) == (ALL, 3)

    run(story, handler, paging=paging("auto"), response_path="data")


def test_auto_never_takes_a_part_for_the_whole() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert "has_more is true" in api.incomplete

    run(story, lambda _: page({"d": items(0, 5), "has_more": True}), paging=paging("auto"),
        response_path="d")  # fmt: skip


def loop_cursor(_: Asked) -> Response:
    return page({"d": items(0, 10), "next": "same"})


NEWS = count(100, 10)


def loop_of_news(_: Asked) -> Response:
    at = next(NEWS)
    return page({"d": items(at, at + 10), "next": "same"})


def same_page(asked: Asked) -> Response:
    return page({"d": items(0, 10)})


def grows(asked: Asked) -> Response:
    at = int(asked.params["page"])
    return page({"d": sliced(at * 10), "pages": 3 + at})


def endless(asked: Asked) -> Response:
    at = int(asked.params["page"])
    return page({"d": items(at * 10, at * 10 + 10)})


LOOPS: dict[str, tuple[Handler, PagingPlan, str]] = {
    "the cursor repeats": (
        loop_cursor, paging("cursor", path="next", param="c"), "page 2 repeats",
    ),
    "the cursor repeats with other records": (
        loop_of_news, paging("cursor", path="next", param="c"), "page 3 is one that was asked for",
    ),
    "the parameter is not heeded": (
        same_page, paging("page", param="page", stop_after_empty_page=True), "page 2 repeats",
    ),
    "the total changes": (
        grows, paging("page", param="page", total_path="pages"), "changed from 3 to 4",
    ),
    "max_pages": (
        endless,
        paging("page", param="page", stop_after_empty_page=True, max_pages=4),
        "max_pages 4",
    ),
    "max_records": (
        endless,
        paging("page", param="page", stop_after_empty_page=True, max_records=25),
        "max_records 25",
    ),
    "max_page": (
        endless, paging("page", param="page", stop_after_empty_page=True, most=2), "max_page 2",
    ),
    "more without a cursor": (
        lambda _: page({"d": items(0, 3), "more": True}),
        paging("cursor", path="next", param="c", has_more_path="more"),
        "there is more but not how",
    ),
    "less than the total": (
        lambda asked: page({"d": sliced(int(asked.params["o"])), "total": 99}),
        paging("offset", param="o", total_path="total", stop_after_empty_page=True),
        "total says 99, 25 came",
    ),
    "fewer pages than the total": (
        lambda asked: page({"d": sliced(int(asked.params["page"]) * 10), "pages": 9}),
        paging("page", param="page", total_path="pages", stop_after_empty_page=True),
        "pages says 9, page 3 is empty",
    ),
    "no field to seek by": (
        lambda _: page({"d": items(0, 3)}),
        paging("seek", param="after", path="seq"),
        "the last record has no seq to go on from",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_a_walk_that_is_not_whole_ends_and_deletes_nothing(name: str) -> None:
    handler, plan, reason = LOOPS[name]

    async def story(api: Api) -> None:
        api.wire.handler = lambda _: page({"d": items(900, 902), "pages": 1, "total": 2})
        await api.poll()
        api.wire.handler = handler
        changes = await api.poll()
        assert changes
        assert reason in api.incomplete
        assert [kind for kind, _ in changes if kind == "DELETE"] == []

    run(story, handler, paging=plan, response_path="d")


def test_a_failed_page_is_named_and_what_came_before_stands() -> None:
    def handler(asked: Asked) -> Response:
        at = int(asked.params["page"])
        return page(b"<html>", 500) if at == 2 else page({"d": sliced(at * 10)})

    async def story(api: Api) -> None:
        await api.poll()
        assert not api.ok
        assert api.reason.startswith("page 3 incomplete: HTTP 500")
        assert len(api.keys) == 20
        api.wire.handler = by_page
        assert {kind for kind, _ in await api.poll()} == {"UPSERT"}
        assert api.keys == ALL

    run(story, handler, paging=paging("page", param="page", stop_after_empty_page=True),
        response_path="d")  # fmt: skip


def test_with_shifting_pages_only_two_walks_make_a_delete() -> None:
    def listing(gone: set[int]) -> Callable[[Asked], Response]:
        left = [record for record in items(0, N) if record["id"] not in gone]
        return lambda asked: page(left[int(asked.params["o"]) :][:10])

    async def story(api: Api) -> None:
        await api.poll()
        api.wire.handler = listing({3, 4})
        assert await api.poll() == []
        api.wire.handler = listing({4})
        assert await api.poll() == [("DELETE", "4")]

    run(story, listing(set()),
        paging=paging("offset", param="o", stop_after_empty_page=True))  # fmt: skip


def test_the_same_answer_again_is_the_second_walk_that_makes_a_delete() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        api.wire.handler = lambda _: page({"d": items(0, 2), "pages": 1})
        assert await api.poll() == []
        assert await api.poll() == [("DELETE", "2")]
        assert await api.poll() == []

    run(story, lambda _: page({"d": items(0, 3), "pages": 1}), response_path="d",
        paging=paging("page", param="page", total_path="pages"))  # fmt: skip


@pytest.mark.parametrize("link", ["http://[::1", "//[x]/", "http://a]b/", "http://h:99999/"])
def test_a_next_page_that_is_no_url_fails_the_walk_and_nothing_else(link: str) -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert not api.ok
        assert "page 2 incomplete: not a URL" in api.reason
        assert len(api.wire.asked) == 1

    run(story, lambda _: page({"d": [{"id": 1}], "next": link}),
        paging=paging("next_url", path="next"), response_path="d")  # fmt: skip


def test_a_next_page_on_another_origin_is_not_asked() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        assert not api.ok
        assert "another origin (http://evil.test:80)" in api.reason
        assert len(api.wire.asked) == 1

    run(story, lambda _: page({"d": [{"id": 1}], "next": "http://evil.test/x"}),
        paging=paging("next_url", path="next"), response_path="d")  # fmt: skip


def test_what_leaves_a_span_that_moves_with_the_clock_is_not_gone() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        api.wire.handler = lambda _: page(items(4, 6))
        for _ in range(3):
            api.clock.advance(3_600_000)
            assert [kind for kind, _ in await api.poll() if kind == "DELETE"] == []
        assert len(api.keys) == 6

    plan = paging("time_slice", since="1h", step_ms=3_600_000, from_param="a", to_param="b")
    run(story, lambda _: page(items(0, 5)), paging=plan)


def test_time_slices_cover_the_time_until_now() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        spans = [(asked.params["a"], asked.params["b"]) for asked in api.wire.asked]
        assert spans == [
            ("2023-11-14T20:13:20Z", "2023-11-14T21:13:20Z"),
            ("2023-11-14T21:13:20Z", "2023-11-14T22:13:20Z"),
        ]
        assert api.incomplete == ""

    plan = paging("time_slice", since="2h", step_ms=3_600_000, from_param="a", to_param="b")
    run(story, lambda _: page([]), paging=plan)


@pytest.mark.parametrize(
    ("header", "url"),
    [
        ('<https://a/?x=1,2>; rel="next"', "https://a/?x=1,2"),
        ("</p?2>; rel=next", "/p?2"),
        ('</p?1>; rel="prev"; title="a, b", </p?2>; title=x; REL="last next"', "/p?2"),
        ('</p?1>; rel="nextish"', ""),
        ("", ""),
        ("garbage <", ""),
    ],
)
def test_link_headers_are_read_as_rfc_8288_says(header: str, url: str) -> None:
    assert linked(header, "next") == url


def by_cursor_without(gone: set[int], empty: int = -1) -> Handler:
    left = [record for record in items(0, N) if record["id"] not in gone]

    def handler(asked: Asked) -> Response:
        at = int(asked.params.get("after", 0))
        found = [] if at == empty else left[at : at + 10]
        return page({"d": found, "next": str(at + 10) if at + 10 < N else None})

    return handler


def test_an_empty_page_in_the_middle_makes_no_delete_by_itself() -> None:
    async def story(api: Api) -> None:
        await api.poll()
        api.wire.handler = by_cursor_without(set(), empty=10)
        assert await api.poll() == []
        api.wire.handler = by_cursor_without({24})
        assert await api.poll() == [("DELETE", "24")]

    run(story, by_cursor_without(set()), response_path="d",
        paging=paging("cursor", path="next", param="after"))  # fmt: skip


@pytest.mark.parametrize(("name", "walks"), [("page", 2), ("cursor", 1)])
def test_links_that_number_their_pages_shift_like_page_numbers(name: str, walks: int) -> None:
    def listing(gone: set[int]) -> Handler:
        left = [record for record in items(0, N) if record["id"] not in gone]

        def handler(asked: Asked) -> Response:
            at = int(asked.params.get(name, 1))
            more = {"link": f'</items?{name}={at + 1}>; rel="next"'} if at < 3 else {}
            return page(left[(at - 1) * 10 :][:10], **more)

        return handler

    async def story(api: Api) -> None:
        await api.poll()
        api.wire.handler = listing({7})
        polls = [await api.poll() for _ in range(walks)]
        assert polls == [[]] * (walks - 1) + [[("DELETE", "7")]]

    run(story, listing(set()), paging=paging("link_header"))
