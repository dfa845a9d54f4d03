"""Results and packed rows are what their documentation says, byte for byte."""

import json
import random
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from litejoin.records import Result, ResultOp, Row, RowKind, pack_rows, rfc3339, unpack_rows

RESULT = Result(7, "orders", '"ü"', '[{"n":1}]', ResultOp.UPSERT, 1_700_000_000_007, "shop/epoch")


def test_times_are_rfc3339_in_utc_with_milliseconds() -> None:
    assert rfc3339(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999Z"
    assert rfc3339(-62_135_596_800_000) == "0001-01-01T00:00:00.000Z"
    for _ in range(200):
        unix_ms = random.randrange(-(10**12), 4 * 10**12)
        seconds, ms = divmod(unix_ms, 1000)
        moment = datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")
        assert rfc3339(unix_ms) == f"{moment}.{ms:03d}Z"


def test_a_body_is_the_documented_object() -> None:
    assert json.loads(RESULT.body()) == {
        "query": "orders", "key": "ü", "rows": [{"n": 1}], "op": "upsert", "seq": 7,
        "emit_at": "2023-11-14T22:13:20.007Z", "id": RESULT.id,
    }  # fmt: skip
    deleted = json.loads(replace(RESULT, op=ResultOp.DELETE, rows="[]").body())
    assert (deleted["op"], deleted["rows"]) == ("delete", [])


def test_an_id_depends_on_pipeline_join_key_and_seq_and_on_nothing_else() -> None:
    others = [
        replace(RESULT, pipeline="shop/other"), replace(RESULT, query="orders2"),
        replace(RESULT, key='"u"'), replace(RESULT, pos=8),
    ]  # fmt: skip
    assert len({r.id for r in [RESULT, *others]}) == 5
    assert RESULT.id == "e5f7570eec01c7cceb9337f3", "what earlier versions have sent"
    assert replace(RESULT, rows="[]", emit_at_ms=0, op=ResultOp.DELETE).id == RESULT.id


def test_rows_come_back_as_they_were_packed() -> None:
    rows = [
        Row(1, RowKind.UPSERT, -5, "ü".encode(), b'{"n":1}', b'{"a":[1,2]}'),
        Row(65535, RowKind.STATE_DELETE, 2**62, b"k"),
    ]
    batch = pack_rows(rows)
    assert len(batch) % 8 == 0
    assert list(unpack_rows(batch)) == rows
    with pytest.raises(ValueError, match="byte 0"):
        list(unpack_rows(batch[:20]))
