"""A transaction that found the disk full is undone in memory as well, and done again."""

from pathlib import Path
from typing import Any

import apsw
import pytest

from litejoin.errors import StorageFullError
from litejoin.records import Row, RowKind
from tests.differential.pipeline import EnginePipeline, engine_pipeline

GROUPED = {"j": "SELECT payload ->> '$.u' AS u, count(*) AS n FROM orders GROUP BY 1"}


def orders(p: EnginePipeline, *keys: str) -> list[Row]:
    number = p.numbers["orders"]
    return [Row(number, RowKind.UPSERT, 1, key.encode(), b'{"u":"x"}') for key in keys]


def test_groups_that_were_made_in_it_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine_pipeline(tmp_path / "d", 1, GROUPED) as p:
        p.engine.apply(*p.write(orders(p, "a", "b")))
        p.engine._native.lose(p.engine._joins[0].handle)
        flush = p.write(orders(p, "c"))

        def full(*_: Any) -> None:
            raise apsw.FullError("disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(p.engine.state, "commit", full)
            with pytest.raises(StorageFullError):
                p.engine.apply(*flush)
        p.engine.apply(*flush)
        assert p.state()["j"]['"x"'] == ['{"n":3,"u":"x"}']
        p.engine.apply(*p.write(orders(p, "d")))
        assert p.state()["j"]['"x"'] == ['{"n":4,"u":"x"}']
