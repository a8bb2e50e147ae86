"""What the tests of the shipper share: a clock that stands still, and a shipper that signs with a key made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ext_proc.audit.shipper import Shipper, ShipReport, Terms
from ext_proc.errors import AuditUnavailable
from tests.fakes.log import AT
from tests.fakes.signer import FakeSigner
from tests.fakes.store import RETENTION, FakeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

SIGNER = FakeSigner()


@dataclass
class StandingClock:
    """The time is what the test says."""

    now: datetime = AT + timedelta(minutes=1)

    def __call__(self) -> datetime:
        return self.now


class Rounds:
    """`threading.Event` that is set after so many rounds; ``between`` is called after each."""

    def __init__(self, rounds: int, between: Callable[[int], object] = lambda _: None) -> None:
        self.left, self.turn, self.between = rounds, 0, between

    def is_set(self) -> bool:
        return self.left <= 0

    def set(self) -> None:
        self.left = 0

    def wait(self, _: float) -> None:
        self.turn += 1
        self.left -= 1
        self.between(self.turn)


@dataclass
class Notes:
    """`Shipper.journal`, in a list. ``is_down``: nothing can be made durable."""

    told: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    is_down: bool = False

    def __call__(self, kind: str, facts: Mapping[str, Any]) -> None:
        if self.is_down:
            raise AuditUnavailable("disk: OSError")
        self.told.append((kind, facts))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]


def a_store(clock: Any) -> FakeStore:
    """A store whose time is that of ``clock``."""
    return FakeStore(clock=clock)


def a_shipper(
    folder: Path, store: Any, clock: Any, journal: Any = None, *, signer: Any = SIGNER, retention: timedelta = RETENTION
) -> Shipper:
    """A shipper of ``folder / "evidence"``: a new process."""
    (folder / "evidence").mkdir(exist_ok=True)
    return Shipper(folder / "evidence", store, Terms(retention, signer), clock, journal)


def ship_all(shipper: Shipper, rounds: int = 12) -> ShipReport:
    """Rounds until one has nothing more to do."""
    made = shipper.run_once()
    for _ in range(rounds):
        if not (made.shipped or made.freed or made.failures):
            break
        made = shipper.run_once()
    return made
