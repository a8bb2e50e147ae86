"""The images: what a pod of the gateway runs, made without an engine, a registry or root. ``make images``.

They stand beside ``helm/`` and not among ``scripts/``, for they are what users get. Three are made, each a file that
``ctr images import``, ``docker load`` and ``skopeo copy oci-archive:`` take:

- ``affidavit``: the gate, the console, the shipper and every command; Python from Debian, the locked wheels, our code
- ``affidavit-envoy``: Envoy
- ``affidavit-opa``: OPA

`images.recipe` says what lies where, `images.debian` and `images.wheels` fetch what is pinned (by SHA-256, all of it),
`images.sbom` lists it, `images.archive` writes it down so that the same commit gives the same bytes. Only the standard
library is used: the recipe also runs inside the ``Dockerfile``, where there is no environment yet.

No image has a shell. Each runs as user 10001 and writes nothing outside the volumes that it is given.
"""
