"""What comes to the console's port and is no HTTP: one line of ours each, and no traceback. Anybody can send it.

aiohttp answers it by itself, before there is a request, and tells its own logger; this is that logger.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from ext_proc import telemetry

_THEIRS: Final = (HttpProcessingError, RequestPayloadError)
_log = telemetry.logger()


class ServerLog(logging.Logger):
    """For `aiohttp.web.Application`'s ``handler_args``. What else its server finds wrong is a bug, of it or of ours."""

    def __init__(self) -> None:
        super().__init__("console.server")

    def debug(self, msg: object, *args: object, **more: Any) -> None:
        """Of a first request's method aiohttp says so little; the rest is of people who left."""
        del msg, args
        if isinstance(more.get("exc_info"), _THEIRS):
            _tell(more["exc_info"])

    def exception(self, msg: object, *args: object, **more: Any) -> None:
        """See `logging.Logger.exception`."""
        del args
        error = more.get("exc_info") or sys.exc_info()[1]
        if isinstance(error, _THEIRS):
            _tell(error)
        else:
            _log.error("console_bug", said=str(msg), kind=type(error).__name__, exc_info=error)


def _tell(error: BaseException) -> None:
    """Of what kind it was; of what it said nothing, for it is anybody's text."""
    _log.info("console_not_http", kind=type(error).__name__)
