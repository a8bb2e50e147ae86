"""Who asks: tokens verified (`token`, pure), keys fetched (`keys`), client certificates read (`certificate`).

`authenticator` joins them. Nothing that a caller names is ever fetched: keys come from configured issuers.
"""
