"""Names and ids in an answer's frame: what a protocol says of itself, not the model to the caller. Pure.

The caller's own values are not put back there: nobody minted a role or an id from them, and what reads such a name (a
router, a log, the line of an event) does not expect text in it.
"""

from __future__ import annotations

import re
from typing import Final

_FRAME: Final = (
    r"(?:/(?:choices|content|output|tool_calls)/(?:[0-9]+|\*)"
    r"|/(?:content_block|custom|delta|function|function_call|item|message|response))"
)
_OF_ITSELF: Final = (
    "call_id|container_id|file_id|finish_reason|id|item_id|model|native_finish_reason|object|previous_response_id"
    "|provider|request_id|response_id|role|service_tier|status|stop_reason|system_fingerprint|tool_use_id|type"
)
_NAME: Final = re.compile(rf"{_FRAME}*/(?:{_OF_ITSELF})|{_FRAME}+/name|/(?:event|id):")


def is_frame_name(path: str) -> bool:
    """Does a name or an id of the frame stand at this path? (``name`` in a tool's arguments is the caller's.)"""
    return _NAME.fullmatch(path) is not None
