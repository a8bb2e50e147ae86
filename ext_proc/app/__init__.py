"""The only place where parts are joined, started in order and stopped in reverse. Each folder may import those below::

doctor, console       is it well; what people see
authoring, evidence   what policy authors and auditors type
serving               the processes of a gateway: `serving.supervisor` keeps them, `serving.worker` is one gate
approval              calls that wait for people
(this folder)         `registry`: from the configuration to the values that rooms take; logs, clocks, Envoy's files
exchange              what one exchange needs of more than one room
"""
