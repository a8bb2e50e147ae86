from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.console_desk import Desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with Desk() as made:
        yield made
