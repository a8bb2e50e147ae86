"""``policy``: where the decision is made, and how OPA gets its bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ext_proc.config.addresses import url_without_user
from ext_proc.config.fields import Like, PositiveSeconds, Section, with_port


class BundleS3Section(Section):
    """Where bundles are published: the newest version of one object. Who may write it need not be trusted: OPA checks
    the signature, the gate the order.
    """

    bucket: str
    """Not the one of the evidence, unless under another prefix."""
    key: Annotated[str, Field(min_length=1, max_length=1024)]
    """The object's key."""
    region: str = "us-east-1"
    """The bucket's region."""
    endpoint: Annotated[str, url_without_user("keys belong in credentials_file")] | None = None
    """Another S3 server than AWS."""
    credentials_file: Path | None = None
    """As `audit.s3.credentials_file`; `s3:GetObject` is enough."""


class DistributionSection(Section):
    """How OPA gets its bundles from the gate. OPA checks the signature, the gate that none is older than the last."""

    public_key_file: Path
    """The public key (PEM) that signs bundles."""
    key_id: Annotated[str, Like(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "letters, digits, . _ and -, 64 at most")]
    """What the key is called in the bundle's signature (`affidavit policy build --key-id`)."""
    algorithm: Literal["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"] = "ES256"
    """Of the signature."""
    listen: Annotated[
        str,
        Like(r"(127\.[0-9.]+|localhost):[0-9]{1,5}", "a loopback address and port: 127.0.0.1:9465"),
        AfterValidator(with_port),
    ] = "127.0.0.1:9465"
    """Where OPA fetches them, and says what became of them; with a word that only it and the gate know."""
    poll_seconds: PositiveSeconds = 5.0
    """How often OPA asks for a new one, at most this long after it lies in `bundle_file`; and the gate in `s3`."""
    s3: BundleS3Section | None = None
    """Fetch each new bundle into `bundle_file`, whose folder the gate must be able to write. Left out: somebody puts it
    there."""


class ShadowSection(Section):
    """A candidate that is asked beside the policy, by another OPA, and never listened to."""

    opa_socket: Path
    """Unix socket of the OPA that loaded the candidate."""
    bundle_file: Path
    """The candidate: `opa run --bundle FILE`."""


class PolicySection(Section):
    """Where the decision is made."""

    opa_socket: Path
    """Unix socket of the OPA server."""
    package: Annotated[str, Like(r"[a-z_]+(/[a-z_]+)*", "words of a to z and _ with slashes between them")] = (
        "inference"
    )
    """Package of the decision, with slashes."""
    rule: Annotated[str, Like(r"[a-z_]+", "a word of a to z and _")] = "decision"
    """The decision rule in it."""
    bundle_file: Path
    """The bundle that OPA loaded: its SHA-256 goes into every record as the policy's digest. With `distribution`: where
    the next one is put."""
    distribution: DistributionSection | None = None
    """The gate gives OPA its bundles: signed ones, each newer. Left out: OPA loads `bundle_file` itself."""
    shadow: ShadowSection | None = None
    """Ask a candidate too, after the decision, and put on record what differs."""
    timeout_seconds: PositiveSeconds = 2.0
    """After this the call is refused with 503. There are no retries."""
