# METADATA
# title: limits
# description: How large a request may be and how long an answer. Settings in data.settings.limits.
# schemas:
#   - input: schema.input
package inference.concerns.limits

# METADATA
# description: more tokens asked for than the settings allow
deny contains "too_many_tokens_asked" if {
	some name in ["max_tokens", "max_completion_tokens"]
	input.request.parameters[name] > data.settings.limits.max_tokens
}

# METADATA
# description: the body is larger than the settings allow
deny contains "body_too_large" if input.request.body_bytes > data.settings.limits.body_bytes
