"""Secrets of channels, in files: read anew whenever they are used, so that one can be changed without a restart."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
_SLACK_SECRET_MIN: Final = 16
_SECRETS_MAX: Final = 2


class BadSecret(Exception):
    """A file of secrets is not as it must be; the message names the file, never what is in it."""


def webhook_secrets(path: Path) -> list[bytes]:
    """The secrets in a file: `whsec_` and base64 of 24 to 64 bytes, one a line, the newer first.

    Raises:
        BadSecret: there is none, or something else.
    """
    found = []
    for line in _lines(path):
        try:
            found.append(base64.b64decode(line.removeprefix(_PREFIX), validate=True))
        except ValueError:
            found.append(b"")
    if any(len(one) not in _SECRET_BYTES for one in found):
        raise BadSecret(f"{path}: each line must be whsec_ and the base64 of 24 to 64 random bytes")
    return found


def slack_secrets(path: Path) -> list[bytes]:
    """The signing secrets of a Slack app in a file, one a line, the newer first.

    Raises:
        BadSecret: there is none, or something else.
    """
    found = [line.encode() for line in _lines(path)]
    if any(len(one) < _SLACK_SECRET_MIN for one in found):
        raise BadSecret(f"{path}: that is no signing secret (see the app's page at Slack, Basic Information)")
    return found


def one_secret(path: Path) -> str:
    """The only line of a file: a token, a password.

    Raises:
        BadSecret: there is none, or there are several.
    """
    [first, *others] = _lines(path)
    if others:
        raise BadSecret(f"{path}: one line is wanted")
    return first


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise BadSecret(f"{path}: cannot be read") from None
    if not 0 < len(found) <= _SECRETS_MAX:
        raise BadSecret(f"{path}: a line, or two while a secret is changed")
    return found
