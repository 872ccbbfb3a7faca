from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store import Store, open_store
from tests.gateway.notes import url_of


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """On a real file of the test's own."""
    async with open_store(url_of(tmp_path)) as store:
        yield store
