# METADATA
# title: Is the question whole?
# description: |
#   Every field that a concern may look at is there and of its type, so that no rule is undefined for want of it.
#   By hand, in few expressions and without functions: json.match_schema takes twice as long (measured).
package inference.concerns.shape

# METADATA
# description: all fields are there and of their types
default allow := false

allow if {
	input.schema == "affidavit/question/v1"
	_kinds(_texts) == {"string"}
	not "" in _texts
	_kinds(_counts) == {"number"}
	min(_counts) >= 0
	every one in _counts {
		one == floor(one)
	}

	count(input.time.now) >= 20 # with milliseconds and `Z`: texts then compare as instants do

	is_string(input.source.address)
	is_string(input.source.user_agent)
	is_boolean(input.request.stream)
	is_boolean(input.request.emergency)
	input.identity.method in {"oidc", "mtls"}
	input.time.weekday in {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
	input.time.hour <= 23
	_is_model

	_kinds([input.identity.client, input.identity.tenant]) - {"string", "null"} == set()
	_kinds([input.identity.groups, input.connection.tags, input.request.betas]) == {"array"}
	_kinds(input.identity.groups) - {"string"} == set()
	_kinds(input.connection.tags) - {"string"} == set()
	_kinds(input.request.betas) - {"string"} == set()
	_kinds([input.findings, input.request.parameters]) == {"object"}
	_kinds(input.findings) - {"number"} == set()
	_kinds(input.request.parameters) - {"string", "number", "boolean", "null"} == set()
}

# METADATA
# description: codes of what is against the call
reasons contains "question_malformed" if not allow

_texts := [
	input.exchange_id,
	input.identity.issuer,
	input.identity.subject,
	input.connection.name,
	input.connection.protocol,
	input.request.method,
	input.request.path,
	input.request.operation,
	input.time.now,
]

_counts := array.concat(
	[input.request.body_bytes, input.request.text_bytes, input.time.hour],
	[found | some found in input.findings],
)

_is_model if {
	is_string(input.request.model)
	input.request.model != ""
}

# Only these need not name one.
_is_model if {
	is_null(input.request.model)
	input.request.operation in {"models", "generic", "opaque"}
}

_kinds(values) := {type_name(value) | some value in values}
