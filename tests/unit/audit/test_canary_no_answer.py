"""An answer that is not S3's says nothing of the store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NoReturn

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.parsers import ResponseParserError

from ext_proc.audit.canary_s3 import run_canary
from ext_proc.audit.store import StoreUnavailable


@pytest.mark.parametrize(
    "error",
    [
        ResponseParserError("a proxy's page"),
        RecursionError(),
        OSError("gone"),
        EndpointConnectionError(endpoint_url="x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_nothing_is_known_of_a_store_that_did_not_answer(error: Exception) -> None:
    class Client:
        def __getattr__(self, name: str) -> object:
            def asked(**_: object) -> NoReturn:
                raise error

            return asked

    with pytest.raises(StoreUnavailable):
        run_canary(Client(), "evidence", "", "epoch-1", lambda: datetime(2026, 11, 24, tzinfo=UTC))
