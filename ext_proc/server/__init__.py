"""The door: the only room that knows gRPC. `listener` opens it, `stream` drives one exchange, `wire` translates."""
