"""Does a person agree: what a hold is (`hold`), where all replicas keep theirs (`register`), how they hear (`bell`)."""
