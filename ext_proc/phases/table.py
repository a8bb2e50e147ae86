"""The life of an exchange as one table: which event is accepted in which state, and which step of the story it is.

Rule 1: every state and every accepted event stands here. What is not in the table is Envoy out of turn (`PeerError`).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from ext_proc.phases import events as ev


class State(Enum):
    """Where an exchange is. A state named with a verb waits for a step of ours, ``AWAIT_*`` for Envoy."""

    START = auto()
    ADMITTING = auto()
    AUTHENTICATING = auto()
    AWAIT_REQUEST_BODY = auto()
    INSPECTING = auto()
    DECIDING = auto()
    OPENING_TOKENS = auto()
    REDACTING_REQUEST = auto()
    ASKING_APPROVAL = auto()
    RECORDING_HOLD = auto()
    HOLDING = auto()
    DECIDING_AGAIN = auto()
    RECORDING_BREAK_GLASS = auto()
    UNLOCKING = auto()
    RECORDING_INTENT = auto()
    AWAIT_RESPONSE = auto()
    AWAIT_RESPONSE_BODY = auto()
    REDACTING_RESPONSE = auto()
    OPENING_STREAM = auto()
    RECORDING_HEAD = auto()
    AWAIT_PIECE = auto()
    REDACTING_PIECE = auto()
    RECORDING_PIECE = auto()
    RECORDING_LAST_PIECE = auto()
    DRAINING = auto()
    RECORDING_OUTCOME = auto()
    RECORDING_REFUSAL = auto()
    RECORDING_LOCAL_REPLY = auto()
    RELEASING_LOCAL_REPLY = auto()
    RECORDING_END = auto()
    SETTLED = auto()
    ENDED = auto()


# A step before the call was let on: the caller may leave, or Envoy may answer in our place (time-out, 413).
_INTERRUPTIBLE: Final = {ev.StreamEnded: "on_left", ev.ResponseHeaders: "on_local_reply", ev.Failed: "on_failed"}
# A record in progress is never interrupted (L4): what Envoy says meanwhile is kept until it is durable. A head comes
# once, so only where there was none yet can one come.
_RECORDING: Final = {ev.StreamEnded: "on_kept", ev.Failed: "on_unrecorded"}
_RECORDING_UNANSWERED: Final = {**_RECORDING, ev.ResponseHeaders: "on_kept"}
_RECORDING_PIECE: Final = {ev.StreamEnded: "on_kept", ev.Failed: "on_piece_unrecorded"}

TABLE: Final[dict[State, dict[type, str]]] = {
    State.START: {
        ev.RequestHeaders: "on_request_headers",
        ev.ResponseHeaders: "on_local_reply",
        ev.StreamEnded: "on_end",
    },
    State.ADMITTING: {ev.Admitted: "on_admitted", **_INTERRUPTIBLE},
    State.AUTHENTICATING: {ev.Authenticated: "on_authenticated", **_INTERRUPTIBLE},
    State.AWAIT_REQUEST_BODY: {
        ev.RequestBody: "on_request_body",
        ev.ResponseHeaders: "on_local_reply",
        ev.StreamEnded: "on_left",
    },
    State.INSPECTING: {ev.Inspected: "on_inspected", **_INTERRUPTIBLE},
    State.DECIDING: {ev.Decided: "on_decided", **_INTERRUPTIBLE},
    State.OPENING_TOKENS: {ev.TokensOpened: "on_tokens_opened", **_INTERRUPTIBLE},
    State.REDACTING_REQUEST: {ev.Redacted: "on_request_redacted", **_INTERRUPTIBLE},
    # A call that needs people to agree: the methods are `ext_proc.phases.holding`'s.
    State.ASKING_APPROVAL: {ev.HoldStands: "on_hold_asked", **_INTERRUPTIBLE},
    State.RECORDING_HOLD: {ev.Recorded: "on_hold_recorded", **_RECORDING_UNANSWERED},
    State.RECORDING_BREAK_GLASS: {ev.Recorded: "on_break_glass_recorded", **_RECORDING_UNANSWERED},
    State.DECIDING_AGAIN: {ev.Decided: "on_decided_again", **_INTERRUPTIBLE},
    State.HOLDING: {ev.HoldStands: "on_hold_resolved", **_INTERRUPTIBLE},
    State.UNLOCKING: {ev.Unlocked: "on_unlocked", **_INTERRUPTIBLE},
    State.RECORDING_INTENT: {ev.Recorded: "on_intent_recorded", **_RECORDING_UNANSWERED},
    State.AWAIT_RESPONSE: {ev.ResponseHeaders: "on_response_headers", ev.StreamEnded: "on_left"},
    State.AWAIT_RESPONSE_BODY: {ev.ResponseBody: "on_response_body", ev.StreamEnded: "on_left"},
    State.REDACTING_RESPONSE: {
        ev.Redacted: "on_response_redacted",
        ev.Failed: "on_failed",
        ev.StreamEnded: "on_left",
    },
    # An answer that streams: the methods are `ext_proc.phases.streaming`'s.
    State.OPENING_STREAM: {ev.StreamOpened: "on_stream_opened", ev.Failed: "on_failed", ev.StreamEnded: "on_left"},
    State.RECORDING_HEAD: {ev.Recorded: "on_head_recorded", **_RECORDING},
    State.AWAIT_PIECE: {ev.ResponseBody: "on_piece", ev.StreamEnded: "on_left"},
    State.REDACTING_PIECE: {
        ev.PieceRedacted: "on_piece_redacted",
        ev.Failed: "on_piece_failed",
        ev.StreamEnded: "on_left",
    },
    State.RECORDING_PIECE: {ev.Recorded: "on_piece_recorded", **_RECORDING_PIECE},
    State.RECORDING_LAST_PIECE: {ev.Recorded: "on_last_piece_recorded", **_RECORDING_PIECE},
    State.DRAINING: {ev.ResponseBody: "on_drained", ev.StreamEnded: "on_end"},
    State.RECORDING_OUTCOME: {ev.Recorded: "on_outcome_recorded", **_RECORDING},
    State.RECORDING_REFUSAL: {ev.Recorded: "on_refusal_recorded", **_RECORDING_UNANSWERED},
    State.RECORDING_LOCAL_REPLY: {ev.Recorded: "on_local_reply_recorded", **_RECORDING},
    State.RELEASING_LOCAL_REPLY: {ev.ResponseBody: "on_local_reply_body", ev.StreamEnded: "on_end"},
    State.RECORDING_END: {
        ev.Recorded: "on_end_recorded",
        ev.Failed: "on_end_unrecorded",
        ev.StreamEnded: "on_kept",
    },
    State.SETTLED: {ev.StreamEnded: "on_end"},
    State.ENDED: {ev.StreamEnded: "on_end"},
}
