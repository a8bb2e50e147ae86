"""For every test: no assertion on wall time, also not by Hypothesis (its deadline is 200 ms a case; machines are shared)."""

from __future__ import annotations

import os

# Some suites run a gRPC server in this process and start programs from it. What gRPC would do for a forked child reaches
# into the one that is about to become Envoy, and now and then aborts it. It is read when grpc is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from hypothesis import settings

settings.register_profile("affidavit", deadline=None)
settings.load_profile("affidavit")
