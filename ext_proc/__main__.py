"""``python -m ext_proc`` is the command ``affidavit``."""

from ext_proc.cli import main

raise SystemExit(main())
