"""What a test needs of the machine and cannot bring: in CI its absence fails, elsewhere it is said and passed over."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def absent(what: str) -> NoReturn:
    """It is not there."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {what}")
    pytest.skip(what)
