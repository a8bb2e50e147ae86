"""The name of a log, taken apart in one place. Pure.

``<gateway>/<replica>-<role>/<epoch>``: the gateway's own name may hold slashes, the other two parts never do. The role
is the number of a worker, ``shipper`` or ``command``; the epoch begins with the time at which the log did.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """A log's unique name (``origin`` of its leaves). ``log``: replica and role, which all epochs of one have alike."""

    gateway: str
    log: str
    epoch: str

    @classmethod
    def read(cls, text: str) -> Origin:
        """Raises ValueError: it has not all three parts."""
        found = cls.find(text)
        if found is None:
            raise ValueError("not the name of a log")
        return found

    @classmethod
    def find(cls, text: str) -> Origin | None:
        """None: it is no log's name, as what a damaged disk or somebody else's object says may not be."""
        return cls(*parts) if len(parts := text.rsplit("/", 2)) == 3 else None

    def __str__(self) -> str:
        return f"{self.gateway}/{self.log}/{self.epoch}"

    @property
    def name(self) -> str:
        """Which log of the gateway: what stands in keys."""
        return f"{self.log}/{self.epoch}"

    @property
    def replica(self) -> str:
        """Whose log."""
        return self.log.rpartition("-")[0]

    @property
    def role(self) -> str:
        """The number of a worker, ``shipper`` or ``command``."""
        return self.log.rpartition("-")[2]

    @property
    def is_of_worker(self) -> bool:
        """Only workers' logs hold exchanges."""
        return self.role.isdecimal()
