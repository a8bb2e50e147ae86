"""Signing in: OpenID Connect's code flow with PKCE, state and nonce.

 1. An attempt has three secrets: `state` ties the answer to this browser, `nonce` the ID token to this attempt, and
    `verifier` the code to this server (RFC 7636, S256 only). They travel in a sealed cookie: nothing is kept of
    somebody who never comes back.
 2. The issuer's answer counts only in the browser that began, within ten minutes, and from this issuer (RFC 9207).
 3. The ID token is verified as every token is (`ext_proc.identity.token`), with this client as its audience.
 4. Where to go then is one of our own pages or the first one (`routes`).

The client part is ours: Authlib comes for requests and httpx only, and oauthlib takes no plain http, not of loopback
either, but by a variable of the environment that switches its check off for the whole process. What would be left for a
library is an address with eight parameters and one form.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import ssl
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from cryptography.fernet import Fernet, InvalidToken

from ext_proc.errors import BadToken, DependencyError
from ext_proc.identity.keys import is_safe
from ext_proc.identity.token import read_unverified, verify_id_token

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.console.settings import Client
    from ext_proc.identity.keys import KeySet
    from ext_proc.identity.token import Trust
    from ext_proc.model import Identity

ATTEMPT_SECONDS: Final = 600
ANSWER_MAX_BYTES: Final = 256 * 1024
"""Of discovery and of the token endpoint: an ID token has 16 KB at most, and there are two tokens."""
ISSUER_SECONDS: Final = 10.0
_OK: Final = 200
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class SignInRefused(Exception):
    """The issuer, or we, did not let somebody in: ``code`` is one of `REFUSALS`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


REFUSALS: Final[Mapping[str, str]] = {
    "no_attempt": "This answer belongs to no sign-in that was begun in this browser in the last ten minutes.",
    "issuer_said_no": "The identity provider did not sign you in.",
    "code_refused": "The identity provider did not accept its own answer: it may have been used already.",
    "token_refused": "What the identity provider said of you does not verify.",
    "pairwise_subjects": "The identity provider tells this console another name for you than the gateway, so nobody "
    "could be kept from approving a call of their own. Whoever operates the gateway names a claim that is the same for "
    "both, in identity.issuers[].claims.subject.",
}


class IssuerUnavailable(DependencyError):
    """The issuer does not answer, or not as it should."""

    code = "issuer_unavailable"
    client_text = "The identity provider cannot be reached at the moment."


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody is about to sign in. ``return_to``: where they wanted to go."""

    state: str
    nonce: str
    verifier: str
    return_to: str

    def __repr__(self) -> str:
        return "Attempt(<redacted>)"


class Attempts:
    """Sealed for the browser that began, so that only this process can open them."""

    def __init__(self) -> None:
        self._box = Fernet(Fernet.generate_key())

    def begin(self, return_to: str, now: datetime) -> tuple[Attempt, str]:
        """A new attempt, and what its cookie says."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        made = Attempt(state, nonce, verifier, return_to)
        return made, self._box.encrypt_at_time(json.dumps(asdict(made)).encode(), int(now.timestamp())).decode()

    def found(self, sealed: str | None, state: str | None, now: datetime) -> Attempt:
        """The attempt that an answer is for.

        Raises:
            SignInRefused: none.
        """
        try:
            opened = self._box.decrypt_at_time(sealed or "", ATTEMPT_SECONDS, int(now.timestamp()))
        except (InvalidToken, ValueError):
            raise SignInRefused("no_attempt") from None
        attempt = Attempt(**json.loads(opened))
        if not hmac.compare_digest((state or "").encode(errors="replace"), attempt.state.encode()):
            raise SignInRefused("no_attempt")
        return attempt


class Provider:
    """The issuer that vouches for people. Call from one event loop.

    Args:
        trust: its name, and this client as the only audience.
        keys: its keys.
        client: what we are to it.
        redirect_uri: where it sends people back to.
        knows_by_sub: people are known by their ``sub``, and this is not the client that callers' tokens are for: an
            issuer that has no other kind of ``sub`` than one for each client lets nobody in.
        unsafe_allow_http: plain http also where it is not on this machine.
        ca_file: PEM authorities of its TLS, if not public.
    """

    def __init__(
        self,
        trust: Trust,
        keys: KeySet,
        client: Client,
        redirect_uri: str,
        *,
        knows_by_sub: bool = False,
        unsafe_allow_http: bool = False,
        ca_file: str | None = None,
    ) -> None:
        self._trust = trust
        self._keys = keys
        self._client = client
        self._redirect_uri = redirect_uri
        self._knows_by_sub = knows_by_sub
        self._allow_http = unsafe_allow_http
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None
        self._endpoints: dict[str, str] | None = None

    async def address(self, attempt: Attempt) -> str:
        """Where to send the browser.

        Raises:
            SignInRefused: it can let nobody in.
            IssuerUnavailable: the issuer does not say where.
        """
        asked = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._client.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge_of(attempt.verifier),
            "code_challenge_method": "S256",
        }
        place = (await self._discovered())["authorization_endpoint"]
        return f"{place}{'&' if urlsplit(place).query else '?'}{urlencode(asked, quote_via=quote)}"

    async def redeem(self, answer: Mapping[str, str], attempt: Attempt, now: datetime) -> Identity:
        """Who signed in.

        Args:
            answer: the query that the browser came back with.
            attempt: what it is the answer to.
            now: the time.

        Raises:
            SignInRefused: nobody.
            IssuerUnavailable: the issuer does not answer.
            KeysUnavailable: nor with its keys.
        """
        if answer.get("iss", self._trust.issuer) != self._trust.issuer:
            raise SignInRefused("no_attempt")
        code = answer.get("code")
        if "error" in answer or not code:
            raise SignInRefused("issuer_said_no")
        shown = await self._exchanged(code, attempt.verifier)
        try:
            said = read_unverified(shown)
            if said.issuer != self._trust.issuer:
                raise BadToken("issuer")
            key = await self._keys.key(said)
            return verify_id_token(shown, said, key, self._trust, now, nonce=attempt.nonce)
        except BadToken:
            raise SignInRefused("token_refused") from None

    async def close(self) -> None:
        """Ask nothing any more."""
        await self._keys.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    # Asking the issuer ---------------------------------------------------------------------------------------------

    async def _exchanged(self, code: str, verifier: str) -> str:
        """The ID token for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
            "client_id": self._client.client_id,
        }
        headers = {}
        if self._client.secret_file is not None:
            secret = (await asyncio.to_thread(self._client.secret_file.read_text)).strip()
            # RFC 6749 section 2.3.1: each half is form-encoded before they are joined.
            pair = f"{quote(self._client.client_id, safe='')}:{quote(secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        endpoint = (await self._discovered())["token_endpoint"]
        status, told = await self._asked("POST", endpoint, headers, form)
        token = told.get("id_token")
        if status != _OK:
            if 400 <= status < 500:
                raise SignInRefused("code_refused")
            raise IssuerUnavailable(f"token_status_{status}")
        if not isinstance(token, str):
            raise IssuerUnavailable("no_id_token")
        return token

    async def _discovered(self) -> dict[str, str]:
        """OpenID Connect Discovery 1.0, section 4: asked once, and again after a failure."""
        if self._endpoints is None:
            issuer = self._trust.issuer
            status, told = await self._asked("GET", issuer.rstrip("/") + "/.well-known/openid-configuration", {}, None)
            if status != _OK or told.get("issuer") != issuer:
                raise IssuerUnavailable("discovery")
            if self._knows_by_sub and told.get("subject_types_supported") == ["pairwise"]:
                raise SignInRefused("pairwise_subjects")
            named = {name: told.get(name) for name in ("authorization_endpoint", "token_endpoint")}
            self._endpoints = {name: self._checked(place) for name, place in named.items()}
        return self._endpoints

    def _checked(self, place: object) -> str:
        """An address that codes and people may be sent to: as safe as the issuer's own."""
        is_local = urlsplit(self._trust.issuer).hostname in _LOOPBACK
        if not isinstance(place, str) or not is_safe(place, allow_http=self._allow_http or is_local):
            raise IssuerUnavailable("unsafe_endpoint")
        if is_local and place.startswith("http:") and urlsplit(place).hostname not in _LOOPBACK:
            raise IssuerUnavailable("unsafe_endpoint")
        return place

    async def _asked(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, dict[str, Any]]:
        sent = {"accept": "application/json", "accept-encoding": "identity", **headers}
        try:
            async with (
                asyncio.timeout(ISSUER_SECONDS),
                self._http().request(method, url, headers=sent, data=form, allow_redirects=False) as answer,
            ):
                body = bytearray()
                while more := await answer.content.read(ANSWER_MAX_BYTES):
                    body += more
                    if len(body) > ANSWER_MAX_BYTES:
                        raise IssuerUnavailable("too_large")
                told = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise IssuerUnavailable(type(error).__name__) from None
        if not isinstance(told, dict):
            raise IssuerUnavailable("not_an_object")
        return answer.status, told

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = ssl.create_default_context(cafile=self._ca_file)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy from the environment would see codes and tokens
                auto_decompress=False,
            )
        return self._session


def challenge_of(verifier: str) -> str:
    """RFC 7636 section 4.2, S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
