"""OPA over its Unix socket, through opa-python-client's async client. The only file that knows it.

The client is used with its retries off (they turn a policy error into 900 ms of silence, measured) and below our own
deadline; its several kinds of exception become one `PolicyUnavailable`.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from opa_client.opa_async import AsyncOpaClient

from ext_proc.errors import ConfigError, PolicyUnavailable, PolicyUndefined
from ext_proc.policy.bundle import read_version
from ext_proc.policy.decision import read_decision
from ext_proc.policy.question import question

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.model import Call, Decision, PolicyVersion

# Errors in built-ins are errors, not undefined rules: an undefined deny rule would allow (measured).
_PARAMETERS: Final = {"provenance": "true", "strict-builtin-errors": "true"}
_CONNECTIONS_MAX: Final = 256


class _UnixClient(AsyncOpaClient):  # type: ignore[misc]  # opa_client ships no types
    """The client over a Unix socket."""

    def __init__(self, socket: Path, timeout_seconds: float) -> None:
        super().__init__(host="localhost", retries=0, timeout=timeout_seconds)
        self._socket = socket

    async def _init_session(self) -> None:
        self._connector = aiohttp.UnixConnector(path=str(self._socket), limit=_CONNECTIONS_MAX)
        # No timers of its own (our deadline is the only one), no cookies, nothing from the environment.
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            auto_decompress=False,
            trust_env=False,
        )


class OpaPolicy:
    """`ports.Policy`.

    Args:
        socket: OPA's Unix socket.
        package: of the decision, with slashes.
        rule: the decision's rule in it.
        bundle: the file that OPA loaded; its digest goes into every decision.
        timeout_seconds: for one question, all in all.
    """

    def __init__(
        self,
        socket: Path,
        package: str,
        rule: str,
        bundle: Path,
        timeout_seconds: float,
    ) -> None:
        self._client = _UnixClient(socket, timeout_seconds)
        self._package = package.replace("/", ".")
        self._rule = rule
        self._bundle = bundle
        self._timeout_seconds = timeout_seconds
        self._versions: dict[str, PolicyVersion] = {}

    async def start(self) -> None:
        """Open the session."""
        await self._client._init_session()  # noqa: SLF001 - ours, see above

    async def close(self) -> None:
        """Close the session."""
        await self._client.close_connection()

    async def is_ready(self) -> bool:
        """Does OPA answer?"""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return bool(await self._client.check_health())
        except TimeoutError:
            return False

    async def decide(self, call: Call) -> Decision:
        """See `ports.Policy.decide`."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer: Any = await self._client.query_rule(
                    question(call), self._package, self._rule, query_params=_PARAMETERS
                )
        except TimeoutError:
            raise PolicyUnavailable("deadline") from None
        except aiohttp.ClientResponseError as error:
            raise PolicyUnavailable(f"status_{error.status}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PolicyUnavailable(type(error).__name__) from None
        if not isinstance(answer, dict) or "result" not in answer:
            raise PolicyUndefined("no_result")
        decision_id = answer.get("decision_id")
        return read_decision(
            answer["result"], decision_id if isinstance(decision_id, str) else str(uuid.uuid4()), self._version(answer)
        )

    def _version(self, answer: dict[str, Any]) -> PolicyVersion:
        """The bundle whose revision OPA read in the same transaction as it decided."""
        try:
            bundles = answer["provenance"]["bundles"]
            [revision] = {bundle["revision"] for bundle in bundles.values()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise PolicyUndefined("no_revision") from None
        found = self._versions.get(revision)
        if found is None:
            try:
                found = read_version(self._bundle)
            except ConfigError:
                raise PolicyUndefined("bundle_unreadable") from None
            if found.revision != revision:
                raise PolicyUndefined("unknown_revision")
            self._versions[revision] = found
        return found
