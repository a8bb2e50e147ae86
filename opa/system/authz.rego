# METADATA
# title: What may be asked of OPA itself
# description: |
#   With --authorization=basic OPA asks this before it answers anything: only the decision and its own health. Nobody
#   who reaches the socket can read the data, load a policy or run a query of their own.
package system.authz

# METADATA
# description: the request is one of the two that the gate makes
default allow := false

allow if {
	input.method == "POST"
	input.path == ["v1", "data", "inference", "decision"]
}

allow if {
	input.method == "GET"
	input.path == ["health"]
}
