# METADATA
# title: What is done with what the scan finds
# description: |
#   `data.inference.masking` maps entities to actions, by direction. Whatever has no line is masked: an entity that the
#   policy has never heard of does not pass in clear.
#
#   `tokenise` (in requests only) puts a token in a value's place. The answer brings the value back for callers in a
#   group that `data.inference.masking.restore` names, of the entities that it names: {"support": ["EMAIL"]}. Where it
#   names none, and that is so unless you write it, tokens stay tokens.
package inference.concerns.masking

_actions := {
	"request": {"mask", "tokenise", "hash", "drop", "partial", "block", "allow"},
	"response": {"mask", "hash", "drop", "partial", "block", "allow"},
}

# METADATA
# description: the data are well formed
default allow := false

allow if {
	every direction in ["request", "response"] {
		is_object(data.inference.masking[direction])
		every entity, action in data.inference.masking[direction] {
			_is_line(direction, entity, action)
		}
	}
	is_object(_restore)
	every entities in _restore {
		is_array(entities)
		every entity in entities {
			_is_entity(entity)
		}
	}
}

# METADATA
# description: codes of what is against the call
reasons contains "masking_malformed" if not allow

# METADATA
# description: the rules by direction, as the decision carries them
redact := object.union(
	{
		"request": _rules("request"),
		"response": _rules("response"),
	},
	_restored,
)

# Said only where something is restored: the decision has the key for that alone.
_restored := {"restore": sort(_mine)} if {
	count(_mine) > 0
} else := {}

_mine contains entity if {
	some group in input.identity.groups
	some entity in _restore[group]
	_is_entity(entity)
}

default _restore := {}

_restore := data.inference.masking.restore

_rules(direction) := [{"entity": entity, "action": action} |
	some entity, action in object.union({"*": "mask"}, _lines(direction))
]

_lines(direction) := {entity: action |
	some entity, action in data.inference.masking[direction]
	_is_line(direction, entity, action)
}

_is_line(direction, entity, action) if {
	_is_entity(entity)
	action in _actions[direction]
}

_is_entity(entity) if regex.match(`^(\*|[A-Z][A-Z0-9_]{0,63})$`, entity)
