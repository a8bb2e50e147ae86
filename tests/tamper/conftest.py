"""The standard bucket, made once; each tamperer gets his own copy."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

from tests.fakes.forge import Forge, build

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def made() -> Forge:
    return build()


@pytest.fixture
def forge(made) -> Forge:
    mine = copy.copy(made)
    mine.bucket = copy.deepcopy(made.bucket)
    return mine


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> tuple[str, Callable[[bytes], bytes]]:
    from tests.tamper.authority import start_authority

    return start_authority(tmp_path_factory.mktemp("authority"))
