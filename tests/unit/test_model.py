"""`ext_proc.model`: values that cannot change, and a secret that cannot be shown."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest

from ext_proc import model
from ext_proc.model import Connection, Identity, Presented, Secret

PLANTED = "sk-planted"


def test_secret_is_shown_nowhere() -> None:
    secret = Secret(PLANTED)
    holder = Presented(secret, None)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!s:>40}", "%s %r" % (secret, secret), repr([secret])]  # noqa: UP031 - each way
    shown += [repr(holder), str({"a": secret}), repr(dataclasses.asdict(holder))]
    assert not [text for text in shown if PLANTED in text]
    assert secret.reveal() == PLANTED


def test_secret_cannot_be_serialised_by_mistake() -> None:
    with pytest.raises(TypeError):
        json.dumps({"token": Secret(PLANTED)})
    assert not hasattr(Secret(PLANTED), "__dict__")


def test_secrets_are_not_compared() -> None:
    """Comparing texts tells by its time how much of them is equal."""
    assert Secret(PLANTED) != Secret(PLANTED)
    assert len({Secret(PLANTED), Secret(PLANTED)}) == 2


def test_error_of_a_secret_does_not_show_it() -> None:
    with pytest.raises(AttributeError) as wrong:
        Secret(PLANTED).value  # type: ignore[attr-defined]  # noqa: B018 - the error is the point
    assert PLANTED not in str(wrong.value)


def _values() -> list[type]:
    return [one for one in vars(model).values() if isinstance(one, type) and dataclasses.is_dataclass(one)]


@pytest.mark.parametrize("one", _values(), ids=lambda one: one.__name__)
def test_every_value_is_frozen(one: type) -> None:
    assert one.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(one)
    assert one.__doc__
    assert not one.__doc__.startswith(f"{one.__name__}(")  # written, not made by dataclass


def test_values_are_equal_by_what_they_hold() -> None:
    one = Identity("https://a", "ada", "oidc", ("analysts",))
    assert one == copy.copy(one) == pickle.loads(pickle.dumps(one))
    assert one != dataclasses.replace(one, subject="eve")


def test_connection_defaults_to_what_is_safe() -> None:
    connection = Connection("model", (), None, 1, 1)
    assert (connection.accepts, connection.unsafe_allow_upgrade, connection.credential) == (("oidc",), False, None)


def test_actions_and_directions_are_the_words_of_records() -> None:
    assert {str(one) for one in model.Action} == {"mask", "tokenise", "hash", "drop", "partial", "block", "allow"}
    assert {str(one) for one in model.Direction} == {"request", "response"}
