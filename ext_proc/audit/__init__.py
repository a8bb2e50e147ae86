"""It happened: records made durable on this disk, then a signed tree of them, locked in the store.

`record`, `frames` and `kinds` are the format, pure; `merkle`, `note` and `receipt` are the proofs. `writer` is a
process's log: durable when it says so; `recovery` ends the logs of dead processes. `shipper` goes over the logs,
`delivery` takes one to the store (`seal`, `epoch`, `roster`, `resume`) by way of `desk`, which believes only what it
reads back from `store` (`s3`). `attest` has time stamps and witnesses' signatures put beside it, `canary` tries the
store's locks, `access_log` ships Envoy's own. `keys` and `registry` keep payloads unreadable to anyone without the
keys, `erasure` destroys one person's; `signer` and `rotation` are about the log's own. `reader` is for the demo.
"""
