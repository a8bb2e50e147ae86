# METADATA
# title: How much a group may ask for in one call
# description: |
#   Off while `data.inference.allowances` is null. `groups` has a line by group, `*` for everybody: `output_tokens` (of
#   all answers of the call together) and `cost`, null for no bound. Of a caller's lines the most generous counts.
#   Whoever has none is refused, and so is who does not say how long the answer may be: left out, it is as long as the
#   model likes.
#
#   The cost is the most that the call can come to, by `prices`, in one currency for a million tokens by model: each byte of text
#   counts as a token. There is no sum over calls here: the question knows only its own.
package inference.concerns.allowances

import data.inference.lib.asked

_without_answer := {"count_tokens", "embedding", "models"}

# METADATA
# description: the call is within an allowance of its caller
default allow := false

allow if data.inference.allowances == null

allow if {
	_is_well_formed
	count(_lines) > 0
	_are_tokens_within
	_is_cost_within
}

# METADATA
# description: codes of what is against the call
reasons contains "allowances_malformed" if {
	not allow
	not _is_well_formed
}

reasons contains "no_allowance" if {
	_is_on
	count(_lines) == 0
}

reasons contains "allowance_tokens" if {
	_is_on
	count(_lines) > 0
	not _are_tokens_within
}

reasons contains "allowance_cost" if {
	_is_on
	count(_lines) > 0
	not _is_cost_within
}

_is_on if {
	not allow
	_is_well_formed
}

_lines contains data.inference.allowances.groups["*"]

_lines contains data.inference.allowances.groups[group] if some group in input.identity.groups

_is_unbounded(name) if {
	some line in _lines
	is_null(line[name])
}

_bound(name) := max({line[name] | some line in _lines})

_are_tokens_within if _is_unbounded("output_tokens")

_are_tokens_within if _tokens <= _bound("output_tokens")

_is_cost_within if _is_unbounded("cost")

_is_cost_within if {
	price := data.inference.allowances.prices[input.request.model]
	bytes := input.request.text_bytes
	((bytes * price.input) + (_tokens * price.output)) / 1000000 <= _bound("cost")
}

# Nothing is generated.
_tokens := 0 if input.request.operation in _without_answer

# Undefined where it is not said, or not in numbers: then nothing is within a bound.
_tokens := max(lengths) * max({1} | {value | some value in asked.answers}) if {
	not input.request.operation in _without_answer
	lengths := {value | some value in asked.output_tokens}
	count(lengths) > 0
	every value in lengths {
		_is_amount(value)
	}
	every value in asked.answers {
		_is_amount(value)
	}
}

_is_well_formed if {
	is_object(data.inference.allowances.prices)
	is_object(data.inference.allowances.groups)
	every line in data.inference.allowances.groups {
		_is_limit(line.output_tokens)
		_is_limit(line.cost)
	}
	every price in data.inference.allowances.prices {
		_is_amount(price.input)
		_is_amount(price.output)
	}
}

_is_limit(value) if is_null(value)

_is_limit(value) if _is_amount(value)

_is_amount(value) if {
	is_number(value)
	value >= 0
}
