# METADATA
# title: Is the question whole?
# description: |
#   Every field that a concern may look at is there and of its type, so that no rule is undefined for want of it.
#   By hand and not with json.match_schema, which compiles the schema for each decision (measured: half of its time).
package inference.concerns.question

# METADATA
# description: all fields are there and of their types
default allow := false

allow if {
	input.schema == "affidavit/question/v1"
	_is_text(input.exchange_id)
	_is_identity
	_is_connection
	_is_request
	_is_time
	is_string(input.source.address)
	is_string(input.source.user_agent)

	is_object(input.findings)
	every entity, found in input.findings {
		_is_text(entity)
		_is_count(found)
	}
}

# METADATA
# description: codes of what is against the call
reasons contains "question_malformed" if not allow

_is_identity if {
	_is_text(input.identity.issuer)
	_is_text(input.identity.subject)
	input.identity.method in {"oidc", "mtls"}
	_is_texts(input.identity.groups)
	_is_text_or_null(input.identity.client)
	_is_text_or_null(input.identity.tenant)
}

_is_connection if {
	_is_text(input.connection.name)
	_is_text(input.connection.protocol)
	_is_texts(input.connection.tags)
}

_is_request if {
	_is_text(input.request.method)
	_is_text(input.request.path)
	_is_text(input.request.operation)
	_is_text_or_null(input.request.model)
	is_boolean(input.request.stream)
	_is_count(input.request.body_bytes)
	_is_count(input.request.text_bytes)

	is_object(input.request.parameters)
	every value in input.request.parameters {
		type_name(value) in {"string", "number", "boolean", "null"}
	}
}

_is_time if {
	_is_text(input.time.now)
	input.time.weekday in {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
	_is_count(input.time.hour)
	input.time.hour <= 23
}

_is_text(value) if {
	is_string(value)
	value != ""
}

_is_text_or_null(value) if is_string(value)

_is_text_or_null(value) if is_null(value)

_is_texts(value) if {
	is_array(value)
	every one in value {
		is_string(one)
	}
}

_is_count(value) if {
	is_number(value)
	value >= 0
	value == floor(value)
}
