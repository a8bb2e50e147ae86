"""OPA over its Unix socket, through opa-python-client's async client. The only file that knows it.

The client is used with its retries off (they turn a policy error into 900 ms of silence, measured) and below
our own deadline; its several kinds of exception become one `PolicyUnavailable`.

The decision id is OPA's own where OPA logs decisions, else ours: OPA's console log costs it 250 us a decision
and writes the question, with the caller's name, in clear.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from opa_client.opa_async import AsyncOpaClient

from ext_proc.errors import ConfigError, PolicyUnavailable, PolicyUndefined
from ext_proc.policy.bundle import read_version
from ext_proc.policy.decision import read_decision
from ext_proc.policy.publishing import BUNDLE
from ext_proc.policy.question import question, write_asked
from ext_proc.policy.session import StatusError, UnixSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from ext_proc.model import Call, Decision, PolicyVersion
    from ext_proc.policy.session import Answer

# Errors in built-ins are errors, not undefined rules: an undefined deny rule would allow (measured).
_PARAMETERS: Final = "provenance=true&strict-builtin-errors=true"
_CONNECTIONS_MAX: Final = 256
PERSISTED: Final = f"opa/bundles/{BUNDLE}/bundle.tar.gz"
"""Below the folder of copies: what OPA loaded, byte for byte, as it keeps it."""
# No NaN: JSON has none, and OPA would answer with an error about the body.
_compact: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _written(document: dict[str, Any]) -> str:
    try:
        return _compact(document)
    except (ValueError, RecursionError) as error:
        raise PolicyUnavailable(type(error).__name__) from None


def _body(given: dict[str, str]) -> str:
    """What OPA gets: ``given`` is the client's ``{"input": ...}`` around what is JSON already. Written once, so that
    what goes on record is what OPA was asked, byte for byte.
    """
    return f'{{"input":{given["input"]}}}'


class _UnixClient(AsyncOpaClient):  # type: ignore[misc]  # opa_client ships no types
    """The client over a Unix socket, which it has no setting for, with a session that costs less (see `session`)."""

    def __init__(self, socket: Path, timeout_seconds: float) -> None:
        super().__init__(host="localhost", retries=0)
        self._socket = socket
        self._timeout_seconds = timeout_seconds

    async def _init_session(self) -> None:
        self._session = UnixSession(self._socket, self._timeout_seconds, _CONNECTIONS_MAX, _body)

    async def ask(self, document: str, package: str, rule: str) -> Any:
        """OPA's whole answer to ``document``, which is JSON. The path is the configuration's: the client does not
        escape it.
        """
        return await self.query_rule(document, package, f"{rule}?{_PARAMETERS}")

    @asynccontextmanager
    async def _request(self, method: str, url: str, **given: Any) -> AsyncIterator[Answer]:
        """The client's own, less its retries."""
        yield await self._session.request(method, url, **given)


class OpaPolicy:
    """`ports.Policy`. Call from one event loop.

    Args:
        socket: OPA's Unix socket.
        package: of the decision, with slashes.
        rule: the decision's rule in it.
        bundle: the file that OPA loaded; its digest goes into every decision.
        timeout_seconds: for one question, all in all.
        copies: where the gate keeps the bundles that it gives OPA; then only these count, and ``bundle`` does not:
            what lies where bundles are published is anybody's, whatever revision it has.
    """

    def __init__(
        self, socket: Path, package: str, rule: str, bundle: Path, timeout_seconds: float, copies: Path | None = None
    ) -> None:
        self._client = _UnixClient(socket, timeout_seconds)
        self._package = package.replace("/", ".")
        self._rule = rule
        self._bundle = bundle
        self._copies = copies
        self._active: PolicyVersion | None = None
        self._versions: dict[str, PolicyVersion] = {}

    async def start(self) -> None:
        """Open the session. OPA need not be there yet."""
        await self._client._init_session()  # noqa: SLF001 - ours, see above

    async def close(self) -> None:
        """Close the session."""
        await self._client.close_connection()

    async def is_ready(self) -> bool:
        """Does OPA answer?"""
        try:
            return bool(await self._client.check_health())
        except (TimeoutError, aiohttp.ClientError):
            return False

    async def active(self) -> PolicyVersion | None:
        """Which bundle OPA decides with now: asked of it, for nobody may be calling. None: it never said."""
        with suppress(PolicyUnavailable, PolicyUndefined):
            await self._version(await self._answer("null"))
        return self._active

    async def decide(self, call: Call) -> Decision:
        """See `ports.Policy.decide`."""
        asked = _written(question(call))
        answer = await self._answer(asked)
        if not isinstance(answer, dict) or "result" not in answer:
            raise PolicyUndefined("no_result")  # OPA's answer when the rule is undefined
        decision_id = answer.get("decision_id")
        if not isinstance(decision_id, str) or not decision_id:
            decision_id = str(uuid.uuid4())
        made = read_decision(answer["result"], decision_id, await self._version(answer))
        return replace(made, asked=write_asked(asked, answer["result"]))

    async def _answer(self, document: str) -> Any:
        try:
            return await self._client.ask(document, self._package, self._rule)
        except TimeoutError:
            raise PolicyUnavailable("deadline") from None
        except StatusError as error:
            raise PolicyUnavailable(f"status_{error.status}") from None
        except (aiohttp.ClientError, OSError, ValueError, RecursionError) as error:
            raise PolicyUnavailable(type(error).__name__) from None

    async def _version(self, answer: dict[str, Any]) -> PolicyVersion:
        """The bundle that decided: OPA reads its revision in the transaction in which it decides.

        The digest is that of the file with this revision. Our bundles' revisions are made from their content
        (`bundle.build`), so it is the file that OPA loaded, even if OPA was told to load it long ago.
        """
        try:
            bundles = answer["provenance"]["bundles"]
            [revision] = [bundle["revision"] for bundle in bundles.values()]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise PolicyUndefined("no_revision") from None
        if not isinstance(revision, str):
            raise PolicyUndefined("no_revision")
        found = self._versions.get(revision)
        if found is None:
            found = self._versions[revision] = await asyncio.to_thread(self._found, revision)
        self._active = found
        return found

    def _found(self, revision: str) -> PolicyVersion:
        """The file with this revision: what OPA keeps is what it loaded; else what it was given, if that is one."""
        if self._copies is None:
            groups: tuple[Iterable[Path], ...] = ((self._bundle,),)
        else:
            groups = ((self._copies / PERSISTED,), self._copies.glob("*.tar.gz"))
        read = [[version for path in group if (version := _read(path)) is not None] for group in groups]
        for versions in read:
            found = {version for version in versions if version.revision == revision}
            if len(found) == 1:
                return found.pop()
            if found:
                raise PolicyUndefined("revision_twice")  # an offer that looks like what is active
        raise PolicyUndefined("unknown_revision" if any(read) else "bundle_unreadable")


def _read(path: Path) -> PolicyVersion | None:
    try:
        return read_version(path)
    except ConfigError:
        return None
