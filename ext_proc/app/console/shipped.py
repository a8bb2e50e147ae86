"""Does the console's evidence get to the store? For `/health`, which is asked often and must answer at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ext_proc.app.process import clock, read_states
from ext_proc.app.serving.standing import is_shipping

if TYPE_CHECKING:
    from ext_proc.config import Config

LOOK_SECONDS: Final = 5.0
NOT_SHIPPED: Final = "evidence is not shipped"
NOT_KEPT: Final = "the store does not keep what it locked"


class Shipped:
    """What the shipper of this ``run_dir`` last said, in words; nothing of why, for anybody may ask.

    Args:
        config: the configuration.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.troubles: tuple[str, ...] = ()

    async def look_forever(self) -> None:
        """Look now and then, in a thread: the disk may hang."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Look once."""
        shipper = read_states(self._config.run_dir).get("shipper", {})
        found = [] if is_shipping(shipper, clock().timestamp()) else [NOT_SHIPPED]
        self.troubles = (*found, *([NOT_KEPT] if shipper.get("canary_holes") else ()))
