"""Fixtures of the delivery tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.store.state_writer import StateWriter


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[StateWriter]:
    """The results log of two joins, nothing in it."""
    writer = StateWriter(tmp_path / "state.db", "orders", "users")
    yield writer
    writer.close()
