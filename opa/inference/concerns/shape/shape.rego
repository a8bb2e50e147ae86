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
	texts := [
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
	{type_name(one) | some one in texts} == {"string"}
	not "" in texts

	counts := array.concat(
		[input.request.body_bytes, input.request.text_bytes, input.time.hour],
		[found | some found in input.findings],
	)
	{type_name(one) | some one in counts} == {"number"}
	min(counts) >= 0
	counts == [floor(one) | some one in counts]

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
	words := array.concat(array.concat(input.identity.groups, input.connection.tags), input.request.betas)
	{type_name(one) | some one in words} - {"string"} == set()

	is_object(input.findings) # each of them is a number: they are among the counts
	is_object(input.request.parameters)
	{type_name(one) | some one in input.request.parameters} - {"string", "number", "boolean", "null"} == set()
}

# METADATA
# description: codes of what is against the call
reasons contains "question_malformed" if not allow

_is_model if {
	is_string(input.request.model)
	input.request.model != ""
}

# Only these need not name one.
_is_model if {
	is_null(input.request.model)
	input.request.operation in {"models", "generic", "opaque"}
}
