"""Affidavit: the auditable inference gateway. This is the map of the house.

Envoy carries the bytes and asks this package at every phase of every exchange. One exchange, once::

    client -> Envoy -> server/listener -> server/stream <-> phases/session   (pure: what happens next)
                                              | performs effects, in this order
                                              |- Authenticate -> identity            who asks
                                              |- Inspect ------> protocols, redaction    what is in it
                                              |- Decide -------> policy (OPA)        may they
                                              |- Redact -------> redaction           what the model may see
                                              |- Hold ---------> approval            do people agree, where they must
                                              |- Record -------> audit               intent: durable, then and only then
    client <- Envoy <- server/stream <------- |- Continue     the call goes to the model
                                              |- Redact, Record(outcome), Continue on the way back
    audit -> S3 (Object Lock) -> verify, evidence: an auditor who trusts none of us

Read `ext_proc.phases.session` next: it is the story of one exchange, told without any I/O; `ext_proc.phases.streaming`
tells it for an answer that comes piece by piece, `ext_proc.phases.holding` for a call that waits for people. A room
(``identity``, ``protocols``, ``policy``, ``approval``, ``redaction``, ``ner``, ``audit``, ``edge``) never calls another
room; ``app`` joins them. ``console`` is for people, ``evidence`` and ``verify`` for auditors.
"""

__version__ = "0.1.0"
