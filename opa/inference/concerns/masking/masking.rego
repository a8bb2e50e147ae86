# METADATA
# title: What is done with what the scan finds, and with fields
# description: |
#   `data.inference.masking` maps entities to actions, by direction. Whatever has no line is masked: an entity that the
#   policy has never heard of does not pass in clear. `data.inference.masking.fields` has rules for fields, by direction:
#   what is done with every value that a path leads to, whatever it says.
#
#   `tokenise` (in requests only) puts a token in a value's place. The answer brings the value back for callers in a
#   group that `data.inference.masking.restore` names, of the entities that it names: {"support": ["EMAIL"]}. Where it
#   names none, and that is so unless you write it, tokens stay tokens.
package inference.concerns.masking

_actions := {
	"request": {"mask", "tokenise", "hash", "drop", "partial", "block", "allow"},
	"response": {"mask", "hash", "drop", "partial", "block", "allow"},
}

_field_actions := {"mask", "hash", "drop", "partial", "block", "include", "exclude"}

# METADATA
# description: the data are well formed
default allow := false

allow if {
	every direction in ["request", "response"] {
		is_object(data.inference.masking[direction])
		every entity, action in data.inference.masking[direction] {
			_is_line(direction, entity, action)
		}
		_has_fields(direction)
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

_rules(direction) := array.concat(
	[{"entity": entity, "action": action} | some entity, action in object.union({"*": "mask"}, _lines(direction))],
	[rule | some rule in data.inference.masking.fields[direction]; _is_field(rule)],
)

_lines(direction) := {entity: action |
	some entity, action in data.inference.masking[direction]
	_is_line(direction, entity, action)
}

_is_line(direction, entity, action) if {
	_is_entity(entity)
	action in _actions[direction]
}

# No rules for fields, or well-formed ones. (The gate reads paths, and refuses what is none.)
_has_fields(direction) if not data.inference.masking.fields[direction]

_has_fields(direction) if {
	is_array(data.inference.masking.fields[direction])
	every rule in data.inference.masking.fields[direction] {
		_is_field(rule)
	}
}

_is_field(rule) if {
	startswith(rule.path, "$")
	rule.action in _field_actions
	count(object.keys(rule) - {"path", "action", "keep", "name"}) == 0
}

_is_entity(entity) if regex.match(`^(\*|[A-Z][A-Z0-9_]{0,63})$`, entity)
