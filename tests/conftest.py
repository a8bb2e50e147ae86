"""For every test: no assertion on wall time, also not by Hypothesis (its deadline is 200 ms a case; machines are shared)."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("affidavit", deadline=None)
settings.load_profile("affidavit")
