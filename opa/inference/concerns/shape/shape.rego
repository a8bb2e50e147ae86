# METADATA
# title: shape
# description: |
#   Is the question of exactly the published shape? Every other concern may rely on it: a field that is missing or of
#   another type would make a rule undefined, and an undefined denial would allow.
package inference.concerns.shape

default valid := false

# METADATA
# description: every field is there and of its type
valid if {
	input.schema == "affidavit/question/v1"
	is_string(input.exchange_id)
	_valid_identity
	_valid_request
	is_string(input.connection.name)
	_texts(input.connection.tags)
	_counts(input.findings)
	is_string(input.time.now)
	is_string(input.time.weekday)
	_whole(input.time.hour)
	is_string(input.source.address)
	is_string(input.source.user_agent)
}

_valid_identity if {
	is_string(input.identity.issuer)
	is_string(input.identity.subject)
	input.identity.subject != ""
	input.identity.method in {"oidc", "mtls"}
	_texts(input.identity.groups)
	_text_or_null(input.identity.client)
	_text_or_null(input.identity.tenant)
}

_valid_request if {
	is_string(input.request.method)
	is_string(input.request.path)
	is_string(input.request.protocol)
	is_string(input.request.operation)
	_valid_model
	is_boolean(input.request.stream)
	is_object(input.request.parameters)
	_whole(input.request.body_bytes)
	_whole(input.request.text_bytes)
}

# Only a listing of models names none.
_valid_model if is_string(input.request.model)

_valid_model if {
	input.request.model == null
	input.request.operation in {"models", "opaque", "generic"}
}

_text_or_null(value) if is_string(value)

_text_or_null(value) if is_null(value)

_texts(value) if {
	is_array(value)
	every one in value { is_string(one) }
}

_counts(value) if {
	is_object(value)
	every one in value { _whole(one) }
}

_whole(value) if {
	is_number(value)
	value >= 0
	value == floor(value)
}
