"""Policies tried before anybody depends on them: what an author runs, never the gate.

`opa_program` runs OPA (one process, or a server that answers thousands of questions); `static` asks it what can be said
of the sources; `vocabulary` and `questions` make questions that a policy has something to say about; `mutations` spoils
them field by field; `judging` says whether the answer got weaker; `failing_open` does all of it; `tracing` says which
lines of the sources had a part in a decision.
"""
