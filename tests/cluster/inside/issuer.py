"""The demo's issuer, for a cluster: ``issuer.py URL`` listens on the URL's port, and its tokens say the URL."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

from aiohttp import web

from ext_proc.demo.issuer import Issuer

url = sys.argv[1]
web.run_app(Issuer(url).app(), host="0.0.0.0", port=urlsplit(url).port, print=None, access_log=None)
