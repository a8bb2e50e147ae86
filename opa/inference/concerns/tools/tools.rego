# METADATA
# title: How many tools
# description: |
#   Off while `data.inference.tools` is null. Bounds how many tools a request may offer the model, by model, `*` for every model without a
#   line of its own; 0 is none. A model without a line may be offered any number. (The question has the number of the
#   tools, not their names.)
package inference.concerns.tools

# METADATA
# description: the request offers no more tools than the model may have
default allow := false

allow if data.inference.tools == null

allow if {
	_is_well_formed
	not _is_bounded
}

allow if {
	_is_well_formed
	is_number(input.request.parameters.tool_count)
	input.request.parameters.tool_count <= data.inference.tools[_listed]
}

# There is no body where tools could be.
allow if {
	_is_well_formed
	is_null(input.request.model)
	is_object(input.request.parameters)
	not "tool_count" in object.keys(input.request.parameters)
}

# METADATA
# description: codes of what is against the call
reasons contains "tools_malformed" if {
	not allow
	not _is_well_formed
}

reasons contains "too_many_tools" if {
	not allow
	_is_well_formed
}

_is_bounded if data.inference.tools[_listed]

_listed := input.request.model if {
	data.inference.tools[input.request.model]
} else := "*"

_is_well_formed if {
	is_object(data.inference.tools)
	every limit in data.inference.tools {
		is_number(limit)
		limit >= 0
	}
}
