"""The only place where parts are joined, started in order and stopped in reverse.

`supervisor` starts the processes and keeps them; `worker` is one gate process; `shipping` is the process that takes
evidence from the disk to the store; `content` and `credentials` are ports that need more than one room.
"""
