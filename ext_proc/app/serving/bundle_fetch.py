"""Bundles that are published in S3: each new one is put where bundles are published on this machine.

From there on it is like any other (`ext_proc.app.serving.distribution`): OPA checks its signature, the gate its number.
A store that does not answer changes nothing: what decides goes on deciding, and the evidence does not wait for it.
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

from ext_proc import files, telemetry
from ext_proc.audit.s3 import S3Store
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.errors import ConfigError
from ext_proc.policy.bundle import BUNDLE_MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path
    from threading import Event

    from ext_proc.config import BundleS3Section, Config

_log = telemetry.logger()


class BundleFetcher:
    """Looks for a new one, again and again.

    Args:
        section: where it is published.
        target: the file.
    """

    def __init__(self, section: BundleS3Section, target: Path) -> None:
        self._section = section
        self._target = target
        self._store = S3Store(section.bucket, "", section.region, section.endpoint, section.credentials_file)
        self._seen: str | None = None
        self.trouble: str | None = None
        """Why nobody knows whether there is a new one."""

    def fetch(self) -> bool:
        """Put it there if it is another one. (After a restart it is put there once more: its bytes are the same.)

        Raises:
            StoreUnavailable, StoreRefused: see `audit.store.Store.fetch`.
            OSError: the file cannot be written.
        """
        found = self._store.changed(self._section.key, self._seen, BUNDLE_MAX_BYTES)
        if found is None:
            return False
        tag, raw = found
        files.replace(self._target, raw)  # one that is too large, too: it is refused, and on record, like any other
        self._seen = tag or None
        _log.info("policy bundle fetched", bucket=self._section.bucket, key=self._section.key, bytes=len(raw))
        return True

    def round(self) -> None:
        """`fetch`, and remember what goes wrong."""
        try:
            self.fetch()
        except (StoreUnavailable, StoreRefused, OSError) as error:
            told = f"{type(error).__name__}: {error}"
            if told != self.trouble:
                _log.warning("policy bundle not fetched", bucket=self._section.bucket, why=told)
            self.trouble = told
        else:
            self.trouble = None

    def start(self, stop: Event, seconds: float) -> None:
        """Rounds in a thread of their own, until ``stop``: a store that hangs keeps nobody else waiting."""

        def live() -> None:
            while not stop.is_set():
                self.round()
                stop.wait(seconds)

        Thread(target=live, name="bundle-fetch", daemon=True).start()


def fetch_first(config: Config) -> None:
    """A gate that never had a bundle cannot begin without one.

    Raises:
        ConfigError: it cannot be fetched.
    """
    section = config.policy.distribution
    if section is None or section.s3 is None or config.policy.bundle_file.exists():
        return
    try:
        BundleFetcher(section.s3, config.policy.bundle_file).fetch()
    except (StoreUnavailable, StoreRefused, OSError) as error:
        where = f"s3://{section.s3.bucket}/{section.s3.key}"
        raise ConfigError(f"policy.distribution.s3: {where}: {type(error).__name__}: {error}") from None
