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
	_counts == [floor(one) | some one in _counts]

	count(input.time.now) >= 20 # with milliseconds and `Z`: texts then compare as instants do

	is_string(input.source.address)
	is_string(input.source.user_agent)
	is_boolean(input.request.stream)
	is_boolean(input.request.emergency)
	input.identity.method in {"oidc", "mtls"}
	input.time.weekday in {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
	input.time.hour <= 23
	_is_model

	type_name(input.identity.client) in {"string", "null"}
	type_name(input.identity.tenant) in {"string", "null"}
	is_array(input.identity.groups)
	is_array(input.connection.tags)
	is_array(input.request.betas)
	{one | some one in input.identity.groups; not is_string(one)} == set()
	{one | some one in input.connection.tags; not is_string(one)} == set()
	{one | some one in input.request.betas; not is_string(one)} == set()
	is_object(input.findings)
	is_object(input.request.parameters)
	{one | some one in input.findings; not is_number(one)} == set()
	{one | some one in input.request.parameters; not type_name(one) in {"string", "number", "boolean", "null"}} == set()
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
