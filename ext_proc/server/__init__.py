"""The door: the only room that knows gRPC. `listener` opens it, `link` and `rpc` speak HTTP/2 and gRPC with Envoy,
`stream` drives one exchange, `wire` translates.
"""
