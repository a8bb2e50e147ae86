"""For every test: no assertion on wall time, also not by Hypothesis (its deadline is 200 ms a case; machines are shared)."""

from __future__ import annotations

import os

# Some suites run a gRPC server in this process and start programs from it. What gRPC would do for a forked child reaches
# into the one that is about to become Envoy, and now and then aborts it. It is read when grpc is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from hypothesis import HealthCheck, settings

# Other examples each time: so the laws go on looking. Not where a run decides whether work lands (`.ci/run`): there the same
# source has the same examples, or a counter-example to what was there before would refuse work that has no part in it.
settings.register_profile("affidavit", deadline=None)
settings.register_profile(
    "landing",
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("AFFIDAVIT_LAWS", "affidavit"))
