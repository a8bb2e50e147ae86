# METADATA
# title: How much at once
# description: |
#   `data.inference.limits` bounds the size of a body and the tokens asked for, under whichever name the protocol has
#   for them; null is no bound.
package inference.concerns.limits

import data.inference.lib.asked

# METADATA
# description: the call is within the limits
default allow := false

allow if {
	_is_well_formed
	_body_fits
	_tokens_fit
}

# METADATA
# description: codes of what is against the call
reasons contains "limits_malformed" if not _is_well_formed

reasons contains "body_too_large" if {
	_is_well_formed
	not _body_fits
}

reasons contains "too_many_tokens_asked" if {
	_is_well_formed
	not _tokens_fit
}

_is_well_formed if {
	_is_limit(data.inference.limits.body_bytes)
	_is_limit(data.inference.limits.max_tokens)
}

_body_fits if _fits(input.request.body_bytes, data.inference.limits.body_bytes)

_tokens_fit if {
	is_object(input.request.parameters)
	every value in asked.output_tokens {
		_fits(value, data.inference.limits.max_tokens)
	}
}

_fits(_, null)

_fits(value, limit) if {
	is_number(value)
	value <= limit
}

_is_limit(null)

_is_limit(value) if {
	is_number(value)
	value >= 0
}
