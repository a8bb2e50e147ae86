"""A one-node Kubernetes that needs no engine and no registry: ``build.sh`` builds it, `machine` runs it.

``make node`` builds it once, into ``.tools/node``. ``python -m tests.cluster.node up`` runs it until Ctrl-C;
``python -m tests.cluster.node in kubectl get pods -A``, from another terminal, asks it.
"""
