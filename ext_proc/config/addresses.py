"""Addresses in the file: none with a credential in it, for the file is in its copies, in tickets, in a ConfigMap."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus, urlsplit

from ext_proc.config.fields import Like

_SECRET_NAME: Final = re.compile(
    r".*(password|passwd|passphrase|secret|token|apikey|accesskey|accesskeyid|privatekey|subscriptionkey|signature"
    r"|credentials?|authorization)|pass|pwd|key|sig|auth|jwt|code"
)
"""Names of parameters that carry a credential, without dashes, dots and underscores: `api_key`, `X-Amz-Signature`
(whoever has a signed address has what it opens), `sig` and `code` (Azure), `key` (Google)."""


def has_password(url: str) -> bool:
    """Is there one before the host?

    Raises:
        ValueError: that is no address.
    """
    return urlsplit(url).password is not None


def secret_parameter(url: str) -> str | None:
    """The first parameter behind the address whose name says that it is a credential."""
    for one in re.split(r"[?#&;]", url)[1:]:
        name, is_given, _ = unquote_plus(one).partition("=")
        if is_given and _SECRET_NAME.fullmatch(re.sub(r"[-_.]", "", name.lower())):
            return re.sub(r"[^A-Za-z0-9._-]", "?", name)
    return None


class Open(Like):
    """An address of a form, without a credential behind its question mark.

    Args:
        pattern: as `Like`.
        wanted: as `Like`.
        where: a sentence that says where a credential belongs instead.
    """

    def __init__(self, pattern: str, wanted: str, where: str) -> None:
        super().__init__(pattern, wanted)
        self._where = where

    def _check(self, text: str) -> str:
        super()._check(text)
        if name := secret_parameter(text):
            raise ValueError(f"must have no credential behind its ? ({name}): {self._where}")
        return text


def url_without_user(where: str) -> Open:
    """An address of HTTP's, without a user and without a credential.

    Args:
        where: a sentence that says where a credential belongs instead.
    """
    return Open(
        r"https?://[^\s/?#@]+([/?#]\S*)?",
        f"https://host:port/path (or http), without a user or a password: {where}",
        where,
    )
