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
	_is_granted(_line.groups, input.identity.groups)
	_has(_line.operations, input.request.operation)
}

allow if {
	is_null(input.request.model)
	_is_granted(data.inference.without_model[input.request.operation].groups, input.identity.groups)
}

# METADATA
# description: codes of what is against the call
reasons contains "model_not_allowed" if not allow

_line := data.inference.models[input.request.model] if {
	# A caller cannot ask for the model named `*`.
	input.request.model != "*"
} else := data.inference.models["*"]

_is_granted(granted, groups) if {
	some group in groups
	group in granted
}

_is_granted(granted, _) if "*" in granted

_has(listed, wanted) if wanted in listed

_has(listed, _) if "*" in listed
