"""Whose a token is, for the console's API: as the gate verifies it."""

from __future__ import annotations

from typing import Any

import pytest

from ext_proc.app.console import TokenBearers
from ext_proc.errors import BadToken
from ext_proc.model import Secret
from tests.unit.identity.test_authenticator import NOW, running


async def test_tenant_is_who_they_belong_to() -> None:
    async with running() as (issuer, authenticator, _):
        bearers = TokenBearers(authenticator)

        assert (await bearers.identify(Secret(issuer.mint(NOW, tid="north")), NOW)).tenant == "north"
        assert (await bearers.identify(Secret(issuer.mint(NOW)), NOW)).tenant is None


@pytest.mark.parametrize("tenant", [7, ["north"], {"north": True}, False, ""])
async def test_tenant_that_nobody_can_read_is_not_none(tenant: Any) -> None:
    """Whoever has no tenant may see every tenant's exchanges."""
    async with running() as (issuer, authenticator, _):
        with pytest.raises(BadToken, match="tenant"):
            await TokenBearers(authenticator).identify(Secret(issuer.mint(NOW, tid=tenant)), NOW)
