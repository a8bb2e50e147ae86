"""A real S3 server that enforces Object Lock: SeaweedFS, on loopback, with a locked bucket."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ext_proc.demo.programs import Program, ProgramError, answers, free_ports, start, tool

if TYPE_CHECKING:
    from pathlib import Path

BUCKET: Final = "evidence"
# The lock keeps every version; this also keeps anyone from hiding one behind a delete marker.
_NO_DELETE: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "NoDelete",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"],
            "Resource": [f"arn:aws:s3:::{BUCKET}/*"],
        },
        {
            "Sid": "NoLoosening",
            "Effect": "Deny",
            "Principal": "*",
            "Action": [
                "s3:PutLifecycleConfiguration",
                "s3:PutBucketVersioning",
                "s3:PutBucketObjectLockConfiguration",
                "s3:DeleteBucket",
            ],
            "Resource": [f"arn:aws:s3:::{BUCKET}"],
        },
    ],
}


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A running server. ``access_key`` and ``secret_key`` are the gateway's: it may write, read and list."""

    program: Program
    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: str
    admin_access_key: str
    admin_secret_key: str

    def client(self, *, as_admin: bool = False) -> Any:
        """An S3 client with the gateway's own credentials, or the administrator's."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.admin_access_key if as_admin else self.access_key,
            aws_secret_access_key=self.admin_secret_key if as_admin else self.secret_key,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )


def start_seaweed(folder: Path, logs: Path, retention_days: int) -> Seaweed:
    """Start a server whose bucket locks everything for ``retention_days`` in COMPLIANCE mode.

    Raises:
        ProgramError: it does not start.
    """
    data = folder / "seaweedfs"
    data.mkdir(parents=True, exist_ok=True)
    keys = [secrets.token_hex(10), secrets.token_hex(20), secrets.token_hex(10), secrets.token_hex(20)]
    identities = folder / "s3.json"
    identities.touch(0o600)
    identities.write_text(json.dumps({"identities": _identities(*keys)}))
    s3, filer, master, volume = free_ports(4, with_grpc=True)
    program = start(
        "seaweedfs",
        (
            tool("weed"), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.port={master}", "-master.telemetry=false", "-master.volumeSizeLimitMB=64",
            f"-volume.port={volume}", "-volume.max=200", "-volume.preStopSeconds=0",
            "-filer", f"-filer.port={filer}", "-filer.disableHttp=true",
            "-s3", f"-s3.port={s3}", f"-s3.config={identities}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        ),
        logs,
        patience_seconds=1.0,  # left alone it takes 15 s (measured), and its data goes with the demo
    )  # fmt: skip
    made = Seaweed(program, f"http://127.0.0.1:{s3}", BUCKET, "us-east-1", *keys)
    try:
        program.wait_until(answers(s3, "/", (200, 403)))
        program.wait_until(lambda: _has_bucket(made, retention_days))
    except ProgramError:
        program.stop()
        raise
    return made


def _identities(access: str, secret: str, admin_access: str, admin_secret: str) -> list[dict[str, Any]]:
    # The last two so that who reads the evidence can see how the bucket is locked.
    reading = ("Read", "List", "GetBucketVersioning", "GetBucketObjectLockConfiguration")
    mine = [f"{action}:{BUCKET}" for action in ("Write", *reading)]
    return [
        {"name": "gateway", "credentials": [{"accessKey": access, "secretKey": secret}], "actions": mine},
        {
            "name": "admin",
            "credentials": [{"accessKey": admin_access, "secretKey": admin_secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
    ]


def _has_bucket(server: Seaweed, retention_days: int) -> bool:
    """Make the bucket: locked from its birth, everything in it locked for ``retention_days`` without being asked."""
    client = server.client(as_admin=True)
    try:
        client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": retention_days}}
        client.put_object_lock_configuration(
            Bucket=BUCKET, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
        client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(_NO_DELETE))
    except (ClientError, BotoCoreError):
        return False
    return True
