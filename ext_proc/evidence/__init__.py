"""For people who read evidence: take it out of the bucket, prove it, list it, show it, ask it again, query it.

`versions` is what a reader needs of a store (`s3` and `directory` are two), and the oldest version of a key is the
evidence. `export` copies all of it, with each log as a tree for other tools; `prove` makes one file that is proof by
itself; `records` and `show` are for eyes, `replay` and `query` for questions. Nothing here writes to the bucket;
whoever reads payloads is put on record first.
"""
