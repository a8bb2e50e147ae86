"""Of `ext_proc.app.console.run`: whose a token is, as the gate verifies it, and where it listens."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from aiohttp import web

from ext_proc.app.console.run import TokenBearers, listen
from ext_proc.errors import BadToken, ConfigError
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


async def test_address_that_cannot_be_had_is_named() -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    taken = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    try:
        with pytest.raises(ConfigError, match=f"console.listen: {address}: Address already in use"):
            await listen(runner, address)
    finally:
        taken.close()
        await runner.cleanup()
