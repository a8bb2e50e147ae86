"""`ext_proc.app.exchange.tokens`: whose tokens they are, how long, and what is left of them after an erasure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ext_proc.app.exchange import tokens as desk_module
from ext_proc.app.exchange.tokens import VaultDesk
from ext_proc.audit import erasure
from ext_proc.audit.keys import KEPT_SECONDS, KeyRing
from ext_proc.audit.vault import Sealer
from ext_proc.errors import AuditUnavailable
from ext_proc.model import (
    Action,
    Call,
    Connection,
    Decision,
    ExchangeId,
    Identity,
    PolicyVersion,
    RedactionRule,
    Source,
    Wanted,
)  # fmt: skip
from ext_proc.redaction import tokens
from tests.fakes.registry import FakeJournal, FakeRegistry
from tests.fakes.vault import FakeVault

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ADA = Identity("https://idp.example.com", "ada", "oidc", tenant="acme")
DEMO = Connection("demo", (), None, 1000, 1000)
MAIL = ("EMAIL", "ada@example.net")
DECISION = Decision(
    True, (), (RedactionRule("*", Action.TOKENISE),), (), None, record_payloads=True, decision_id="d",
    policy=PolicyVersion("r", "0" * 64), restore=("*",),
)  # fmt: skip


class Desk:
    """One replica's, over what several share."""

    def __init__(self, registry: FakeRegistry | None = None, vault: FakeVault | None = None) -> None:
        self.now = 100.0
        self.registry = registry or FakeRegistry()
        self.vault = vault or FakeVault()
        self.keyring = KeyRing(b"k" * 32, b"p" * 32, self.registry, lambda: self.now)
        self.desk = VaultDesk(self.keyring, self.vault, DAY)

    def open(
        self, *values: tuple[str, str], who: Identity = ADA, to: Connection = DEMO, conversation: str = "",
        restore: tuple[str, ...] = ("*",), at: datetime = NOW,
    ) -> Any:  # fmt: skip
        source = Source("10.0.0.1", "test")
        call = Call(ExchangeId("x"), to, who, "POST", "/", 1, None, source, NOW)  # type: ignore[arg-type]
        return self.desk.open_now(call, replace(DECISION, restore=restore), Wanted(values, conversation), at)


def test_equal_values_get_equal_tokens_on_every_replica() -> None:
    one = Desk()
    other = Desk(one.registry, one.vault)
    first = one.open(MAIL, ("PHONE", "+44 20 7946 0958"))
    again = other.open(("EMAIL", "bob@example.org"), MAIL)
    assert first.minted[MAIL] == again.minted[MAIL]
    assert again.minted["EMAIL", "bob@example.org"] != again.minted[MAIL]
    assert tokens.entity_of(first.minted[MAIL]) == "EMAIL"
    assert sorted(again.restorable.values()) == ["+44 20 7946 0958", "ada@example.net", "bob@example.org"]


@pytest.mark.parametrize(
    "other",
    [
        {"who": replace(ADA, subject="bob")},
        {"who": replace(ADA, tenant="other")},
        {"who": replace(ADA, issuer="https://other.example.com")},
        {"to": replace(DEMO, name="other")},
        {"conversation": "conv_1"},
    ],
)
def test_nobody_elses_and_no_other_conversations(other: dict[str, Any]) -> None:
    desk = Desk()
    minted = desk.open(MAIL).minted[MAIL]
    assert desk.open(**other).restorable == {}
    assert desk.open(MAIL, **other).minted[MAIL] != minted
    assert list(desk.open().restorable) == [minted]


def test_what_the_decision_restores_and_no_more() -> None:
    desk = Desk()
    phone = ("PHONE", "+44 20 7946 0958")
    assert desk.open(MAIL, phone, restore=()).restorable == {}
    assert list(desk.open(MAIL, phone, restore=("EMAIL",)).restorable.values()) == [MAIL[1]]
    assert sorted(desk.open(restore=("EMAIL", "PHONE", "NOTHING")).restorable.values()) == [phone[1], MAIL[1]]


def test_a_secret_that_got_into_the_vault_never_comes_out() -> None:
    desk = Desk()
    assert desk.open(("SECRET_AWS", "AKIA")).restorable == {}


def test_a_token_ends_unless_it_is_used_again() -> None:
    desk = Desk()
    desk.open(MAIL)
    assert desk.open(at=NOW + DAY).restorable == {}
    assert desk.open(MAIL, at=NOW + 3 * DAY / 4).restorable
    assert desk.open(at=NOW + DAY).restorable


def test_after_an_erasure_no_token_of_theirs_opens() -> None:
    """Of nobody's copy of the vault, and not with the keys that any process has in memory."""
    desk = Desk()
    other = Desk(desk.registry, desk.vault)
    before = desk.open(MAIL).minted[MAIL]
    bob = replace(ADA, subject="bob")
    assert other.open(MAIL, who=bob).restorable and other.open().restorable
    waited: list[float] = []
    subject_ref = desk.keyring.subject_reference(ADA)
    result = erasure.erase(
        desk.registry, subject_ref, order=erasure.Order("asked", "dpo"), clock=lambda: NOW,
        journal=FakeJournal(), wait=waited.append,
    )  # fmt: skip
    assert (result.outcome, waited) == ("erased", [KEPT_SECONDS])
    for one in (desk, other):
        one.now += waited[0]
    assert [name for _, name in desk.vault.kept]  # the rows are still there
    assert desk.open().restorable == other.open().restorable == {}
    assert other.open(who=bob).restorable
    again = other.open(MAIL)
    assert again.minted[MAIL] != before and again.restorable == {again.minted[MAIL]: MAIL[1]}


def test_two_values_with_one_name_get_two(monkeypatch: Any) -> None:
    """Six letters are 64 million: here the hash is made to agree on the first six."""
    named = tokens.name_of
    monkeypatch.setattr(
        desk_module, "name_of",
        lambda key, scope, entity, value, length: (
            f"{entity}_BCDFGH" if length == 6 else named(key, scope, entity, value, length)
        ),
    )  # fmt: skip
    desk = Desk()
    bob = ("EMAIL", "bob@example.org")
    together = desk.open(MAIL, bob)
    assert together.minted[MAIL] == "EMAIL_BCDFGH" and len(together.minted[bob]) == len("EMAIL_") + 7
    assert desk.open(bob).minted[bob] == together.minted[bob]  # though it comes first now
    assert {together.restorable[name] for name in together.minted.values()} == {MAIL[1], bob[1]}


def test_without_registry_or_vault_there_are_none() -> None:
    desk = Desk()
    desk.open(MAIL)
    desk.vault.is_down = True
    for values in ((MAIL,), ()):
        with pytest.raises(AuditUnavailable, match="token_vault"):
            desk.open(*values)
    desk.vault.is_down, desk.registry.is_down = False, True
    desk.now += KEPT_SECONDS
    with pytest.raises(AuditUnavailable, match="key_registry"):
        desk.open(MAIL)


def test_the_vault_holds_nothing_in_clear_and_nothing_that_can_be_moved() -> None:
    desk = Desk()
    name = desk.open(MAIL).minted[MAIL]
    [((scope, kept_as), (sealed, _))] = desk.vault.kept.items()
    assert kept_as == name and b"ada" not in sealed
    key = desk.keyring.token_key(desk.keyring.subject_reference(ADA))
    assert Sealer(key, scope).open(name, sealed) == MAIL[1]
    assert Sealer(key, scope + "x").open(name, sealed) is None
    assert Sealer(key, scope).open("EMAIL_BCDFGH", sealed) is None
    assert Sealer(b"k" * 32, scope).open(name, sealed) is None
    assert [Sealer(key, scope).open(name, bad) for bad in (b"", sealed[:10], sealed[:-1])] == [None] * 3
    desk.vault.kept[scope, "EMAIL_BCDFGH"] = (sealed, NOW + DAY)
    assert list(desk.open().restorable) == [name]


def test_nothing_is_shown() -> None:
    made = Desk().open(MAIL)
    for one in (made, Wanted((MAIL,), "conv_1")):
        assert "ada" not in repr(one) and "conv_1" not in repr(one)
