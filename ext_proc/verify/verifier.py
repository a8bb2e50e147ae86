"""The verification from its first step to its last; the code carries the same numbers.

 1. Read the policy: the keys, the promises and the tolerance that the auditor accepts.
 2. Ask the bucket: is it versioned, can it lock?
 3. List every version of every object. The oldest is the evidence; later versions, delete markers and names that do
    not belong are findings.
 4. Follow the key manifests: which keys were introduced by one that is accepted?
 5. Read the birth records of all logs.
 6. Read the roll-ups, and note of which trees they speak.
 7. For every epoch, read every byte:
    7.1 every leaf: canonical, in its place, of its time; every ciphertext against its digest (worker processes);
    7.2 the tree, joined from the workers' ranges, against every checkpoint;
    7.3 how it began and ended: birth record, first and last leaf, intents and outcomes;
    7.4 its hourly digests, their time stamps, the witnesses.
 8. What the logs say of one another: births, ends, predecessors, canaries, objects that were made; and of every call
    that needed people's agreement, what these people said.
 9. Envoy's access log: no hole, no line less.
10. The roll-ups and the statements of completeness against the epochs.
11. The receipts that callers kept.
12. Of an export: every other byte of the directory, and the trees for other tools.
13. Report.

Nothing is believed because a name or a size says so, and nothing that an attacker chooses decides how much memory is
used. What cannot be read for other reasons than tampering (no network, no credentials) ends the verification with
`VerifyError`: it never passes for a clean one.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.verify import policy as policies
from ext_proc.verify.access import check_access_logs
from ext_proc.verify.approvals import Approvals
from ext_proc.verify.bundles import check_bundles
from ext_proc.verify.claims import Claims
from ext_proc.verify.digests import Digests
from ext_proc.verify.directory import DirectorySource
from ext_proc.verify.epoch import Epoch, Join, tasks
from ext_proc.verify.exported import check_files
from ext_proc.verify.findings import Findings, Report, VerifyError
from ext_proc.verify.inventory import Inventory, take_inventory
from ext_proc.verify.keys import accept_rotations
from ext_proc.verify.pool import Task, read_all
from ext_proc.verify.proofs import verify_proofs
from ext_proc.verify.receipts import Receipts
from ext_proc.verify.reconcile import check_statements
from ext_proc.verify.rollups import check_rollups, named_sizes, read_rollups
from ext_proc.verify.roster import Birth, compare_opening, read_rosters
from ext_proc.verify.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.verify.findings import Progress
    from ext_proc.verify.source import Source

Log = tuple[str, str]


def verify(
    source: str,
    policy: Path,
    *,
    receipts: Path | None = None,
    jobs: int = 2,
    progress: Callable[[Progress], None] | None = None,
    without_payloads: bool = False,
) -> Report:
    """Verify a bucket, an export or a proof file.

    Args:
        source: ``s3://bucket/prefix``, a directory that ``affidavit export`` wrote, or a proof file.
        policy: the auditor's policy file.
        receipts: a file with one receipt a line; None: no receipts are checked.
        jobs: worker processes; 1: everything in this one.
        progress: told how far it is.
        without_payloads: do not read the packs; their locks are checked all the same.

    Raises:
        VerifyError: it could not run.
    """
    accepted = policies.load(policy)  # 1
    where: Source
    if source.startswith("s3://"):
        from ext_proc.verify.bucket import BucketSource

        where = BucketSource.of_url(source)
    elif Path(source).is_dir():
        where = DirectorySource(Path(source))
    elif Path(source).is_file():
        return verify_proofs(Path(source), accepted)
    else:
        raise VerifyError(f"{source}: no such file or directory; a bucket is named s3://bucket/prefix")
    return _Verifier(where, accepted, receipts, jobs, progress, with_payloads=not without_payloads).run()


class _Verifier:
    def __init__(
        self,
        source: Source,
        policy: policies.AuditorPolicy,
        receipts: Path | None,
        jobs: int,
        progress: Callable[[Progress], None] | None,
        *,
        with_payloads: bool,
    ) -> None:
        findings = Findings()
        facts = source.facts(findings)  # 2
        if not (facts.is_versioned and facts.is_lockable):
            missing = "versioning" if not facts.is_versioned else "Object Lock"
            findings.add("bucket_unlocked", facts.name, f"The bucket has no {missing}.")
        self._run = Run(policy, source, facts, findings, progress)
        self._jobs = jobs
        self._with_payloads = with_payloads
        self._receipts = Receipts(self._run, receipts)
        self._births: dict[Log, Birth] = {}
        self._epochs: dict[Log, Epoch] = {}

    def run(self) -> Report:
        """Steps 3 to 13."""
        run = self._run
        run.step("listing")
        inventory = take_inventory(run)  # 3
        run.step("notes")
        accept_rotations(run, inventory)  # 4
        self._births = read_rosters(run, inventory)  # 5
        rollups = read_rollups(run, inventory)  # 6
        claims = Claims(run, inventory)
        run.step("records")
        approvals = Approvals(run)
        self._read_epochs(inventory, claims, approvals, named_sizes(run, rollups))  # 7
        run.step("completeness")
        claims.check(self._epochs, self._births)  # 8
        approvals.check({one.origin: str((one.opening or {}).get("role")) for one in self._epochs.values()})
        check_access_logs(run, inventory, claims)  # 9
        check_rollups(run, rollups, self._epochs, claims)  # 10
        check_statements(run, inventory, claims)
        check_bundles(run, inventory, claims)
        self._receipts.check(self._epochs, self._births)  # 11
        if isinstance(run.source, DirectorySource):
            run.step("files")
            check_files(run, run.source, inventory, self._epochs, with_packs=self._with_payloads)  # 12
        whole = [epoch for epoch in self._epochs.values() if epoch.size]
        if not whole:
            run.findings.add("epoch_missing", run.policy.gateway, "There is no log at all.")
        run.step("done")
        return run.findings.report(run.leaves, len(whole))  # 13

    def _read_epochs(
        self, inventory: Inventory, claims: Claims, approvals: Approvals, named: dict[Log, set[int]]
    ) -> None:
        """Step 7. Tasks run ahead over all epochs; results come back in their order."""
        run = self._run
        planned: deque[tuple[Log, int]] = deque()

        def plan() -> Iterator[Task]:
            for log, objects in sorted(inventory.logs.items()):
                made = tasks(run, log, objects, self._receipts.wanted(log), with_payloads=self._with_payloads)
                planned.append((log, len(made)))
                yield from made

        results = read_all(run.source, plan(), self._jobs)
        done = next(results, None)
        while planned:
            log, count = planned.popleft()
            join = Join(run, log, inventory.logs[log], claims, approvals, named.get(log, set()))
            for _ in range(count):
                if done is None:
                    raise VerifyError("a worker process gave no result")
                join.take(done)  # 7.1, 7.2
                done = next(results, None)
            self._finish(log, join, inventory)

    def _finish(self, log: Log, join: Join, inventory: Inventory) -> None:
        run = self._run
        objects = inventory.logs[log]
        epoch = join.finish()  # 7.3
        birth = self._births.get(log)
        if birth is not None and epoch.opening is not None:
            compare_opening(run, epoch.opening_key, birth, epoch.opening)
        Digests(run, inventory, objects, epoch, join.parts).check(join.checkpoints)  # 7.4
        self._receipts.take(log, join.hashes)
        if not epoch.size and (objects.checkpoint or objects.digest or objects.payload):
            run.findings.add("epoch_missing", epoch.origin, "There are notes about this log, and no records of it.")
        self._epochs[log] = epoch
