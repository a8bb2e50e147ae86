# METADATA
# title: How much risk at once
# description: |
#   Off while `data.inference.risk` is null. Each thing that is known of a call weighs what `weights` says: `findings` (times how often it was
#   found; `*` for entities without a weight), `groups`, `tags`, `models` and `operations`. The sum is the score. From
#   `deny_at` on the call is refused, from `approve_at` on the people in `approval` must agree (see the concern
#   approval); null is no threshold. No weight is negative: nothing makes another thing less of a risk.
package inference.concerns.risk

_weighed := {"findings", "groups", "tags", "models", "operations"}

# METADATA
# description: the score is known, and not too high
default allow := false

allow if data.inference.risk == null

allow if {
	_is_well_formed
	is_number(score)
	not _is_reached(data.inference.risk.deny_at)
}

# METADATA
# description: codes of what is against the call
reasons contains "risk_malformed" if {
	not allow
	not _is_well_formed
}

reasons contains "risk_too_high" if {
	not allow
	_is_well_formed
}

# METADATA
# description: what the call weighs
score := sum(_of_findings) + sum(_of_words) if {
	is_object(input.findings)
	every times in input.findings {
		is_number(times)
	}
}

# METADATA
# description: who must agree
demands contains data.inference.risk.approval if {
	is_object(data.inference.risk)
	allow
	_is_reached(data.inference.risk.approve_at)
}

_of_findings := [product |
	some entity, times in input.findings
	product := _of_entity(entity) * times
]

_of_words := [weight | some [kind, name] in _words; weight := data.inference.risk.weights[kind][name]]

_of_entity(entity) := data.inference.risk.weights.findings[entity]

_of_entity(entity) := data.inference.risk.weights.findings["*"] if {
	not entity in object.keys(data.inference.risk.weights.findings)
}

_words contains ["groups", group] if some group in input.identity.groups

_words contains ["tags", tag] if some tag in input.connection.tags

_words contains ["models", input.request.model]

_words contains ["operations", input.request.operation]

_is_reached(threshold) if {
	is_number(threshold)
	not score < threshold
}

_is_well_formed if {
	is_object(data.inference.risk.weights)
	object.keys(data.inference.risk.weights) == _weighed
	every weights in data.inference.risk.weights {
		is_object(weights)
		every weight in weights {
			is_number(weight)
			weight >= 0
		}
	}
	_is_threshold(data.inference.risk.deny_at)
	_is_threshold(data.inference.risk.approve_at)
	_is_approval
}

_is_threshold(value) if is_null(value)

_is_threshold(value) if is_number(value)

# The concern approval looks at what is in it.
_is_approval if is_null(data.inference.risk.approve_at)

_is_approval if is_object(data.inference.risk.approval)
