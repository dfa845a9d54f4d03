"""The background check takes a damaged shard out of service, whatever is wrong with it."""

from collections.abc import Callable

import pytest

from litejoin.clock import SystemClock
from litejoin.store.scrub import Scrubber
from litejoin.store.sqlite import open_database
from tests.harness.waiting import eventually
from tests.unit.store.conftest import Opener

DAMAGES = {
    "a row": "UPDATE t1 SET payload = '[]' WHERE id = 2",
    # Row by row all is well: only SQLite's own check of the file tells.
    "a page": "PRAGMA writable_schema = ON; CREATE TABLE x(a); INSERT INTO x VALUES(NULL);"
    " UPDATE sqlite_schema SET sql = 'CREATE TABLE x(a NOT NULL)' WHERE name = 'x'",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_it_finds(open_store: Opener, upserts: Callable[..., bytes], damage: str) -> None:
    store = open_store(2)
    store.flush([upserts(store.create_topic("orders"), 20)])
    connection = open_database(store.layout.shard(1))
    connection.execute(DAMAGES[damage])
    connection.close()
    paths = {number: store.layout.shard(number) for number in range(2)}
    scrubber = Scrubber(paths, store.quarantine, SystemClock(), 1, 10**9)
    scrubber.start()
    try:
        eventually(lambda: scrubber.stats()["rounds"])
    finally:
        scrubber.close()
    assert list(store.quarantine.reasons()) == [1]
