# METADATA
# title: Who may call which model
# description: |
#   `data.inference.models` names models, and for each the groups and operations; `*` is any model that has no line of
#   its own, any group, any operation. `data.inference.without_model` does the same for operations that name no model.
package inference.concerns.models

# METADATA
# description: one of the caller's groups may do this with this model
default allow := false

allow if {
	is_string(input.request.model)
	input.request.model != "*" # a name for us, never for callers
	_is_granted(_line.groups)
	_is_offered(_line.operations)
}

allow if {
	is_null(input.request.model)
	_is_granted(data.inference.without_model[input.request.operation].groups)
}

# METADATA
# description: codes of what is against the call
reasons contains "not_permitted" if not allow

_line := data.inference.models[input.request.model] if {
	data.inference.models[input.request.model]
} else := data.inference.models["*"]

_is_granted(groups) if {
	some group in input.identity.groups
	group in groups
}

_is_granted(groups) if "*" in groups

_is_offered(operations) if input.request.operation in operations

_is_offered(operations) if "*" in operations
