# METADATA
# title: What is done with what the scan finds
# description: |
#   `data.inference.masking` maps entities to actions, by direction. Whatever has no line is masked: an entity that the
#   policy has never heard of does not pass in clear.
package inference.concerns.masking

_actions := {"mask", "hash", "drop", "partial", "block", "allow"}

# METADATA
# description: the data are well formed
default allow := false

allow if {
	every direction in ["request", "response"] {
		is_object(data.inference.masking[direction])
		every entity, action in data.inference.masking[direction] {
			_is_line(entity, action)
		}
	}
}

# METADATA
# description: codes of what is against the call
reasons contains "masking_malformed" if not allow

# METADATA
# description: the rules by direction, as the decision carries them
redact := {
	"request": _rules("request"),
	"response": _rules("response"),
}

_rules(direction) := [{"entity": entity, "action": action} |
	some entity, action in object.union({"*": "mask"}, _lines(direction))
]

_lines(direction) := {entity: action |
	some entity, action in data.inference.masking[direction]
	_is_line(entity, action)
}

_is_line(entity, action) if {
	regex.match(`^(\*|[A-Z][A-Z0-9_]{0,63})$`, entity)
	action in _actions
}
