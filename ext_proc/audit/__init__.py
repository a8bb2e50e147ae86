"""It happened: records made durable on this disk, then locked in the store.

`record` and `frames` are the format, pure. `writer` is a worker's log: durable when it says so. `recovery` ends the
logs of dead workers. `seal`, `store`, `s3` and `shipper` take the log to the store and free the disk only after
reading back. `reader` is for people. `keys` keeps payloads unreadable to anyone without the keys.
"""
