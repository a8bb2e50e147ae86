# METADATA
# title: What is done with what the scan finds, and with fields
# description: |
#   `data.inference.masking` maps entities to actions, by direction. Whatever has no line is masked: an entity that the
#   policy has never heard of does not pass in clear. `data.inference.masking.fields` has rules for fields, by direction:
#   what is done with every value that a path leads to, whatever it says.
#
#   `data.inference.masking.roles` has lines of their own for callers in a group, in place of those for everybody:
#   {"clinicians": {"response": {"DIAGNOSIS": "allow"}}}. Where several of a caller's groups have a line for an entity,
#   the strictest of them counts.
#
#   `tokenise` (in requests only) puts a token in a value's place. The answer brings the value back for callers in a
#   group that `data.inference.masking.restore` names, of the entities that it names: {"support": ["EMAIL"]}. Where it
#   names none, and that is so unless you write it, tokens stay tokens.
package inference.concerns.masking

# What has another name is a misspelt one: it must not be a setting that is off.
_settings := {"request", "response", "fields", "roles", "restore"}

_actions := {
	"request": {"mask", "tokenise", "hash", "drop", "partial", "block", "allow"},
	"response": {"mask", "hash", "drop", "partial", "block", "allow"},
}

# The less a text still tells, the stricter.
_strictness := {"allow": 0, "partial": 1, "tokenise": 2, "hash": 3, "mask": 4, "drop": 5, "block": 6}

_field_actions := {"mask", "hash", "drop", "partial", "block", "include", "exclude"}

# METADATA
# description: the data are well formed
default allow := false

allow if {
	count(object.keys(data.inference.masking) - _settings) == 0
	_are_lines("request", data.inference.masking.request)
	_are_lines("response", data.inference.masking.response)
	_are_fields
	is_object(_roles)
	every lines in _roles {
		is_object(lines)
		every direction, own in lines {
			_are_lines(direction, own)
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
	_restore != {}
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
	[{"entity": entity, "action": action} | some entity, action in object.union({"*": "mask"}, _lines[direction])],
	[rule | some rule in _fields[direction]; _is_field(rule)],
)

# The lines by direction. Where the data are well formed and no role has its own, they are as they are written: `allow` has
# looked at each. Else line by line, without what is none.
_lines := data.inference.masking if {
	allow
	_roles == {}
} else := {direction: lines |
	some direction, _ in _actions
	lines := object.union(_of(direction, data.inference.masking), _of_roles(direction))
}

_of(direction, lines) := {entity: action |
	some entity, action in lines[direction]
	_is_line(direction, entity, action)
}

_of_roles(direction) := {entity: action |
	some group in input.identity.groups
	some entity, _ in _of(direction, _roles[group])
	actions := {_of(direction, _roles[other])[entity] | some other in input.identity.groups}
	action := _strictest(actions)
}

_strictest(actions) := action if {
	some action in actions
	_strictness[action] == max({_strictness[one] | some one in actions})
}

default _fields := {}

_fields := data.inference.masking.fields

default _roles := {}

_roles := data.inference.masking.roles

_are_lines(direction, lines) if {
	_actions[direction]
	is_object(lines)
	every entity, action in lines {
		_is_entity(entity)
		action in _actions[direction]
	}
}

_is_line(direction, entity, action) if {
	_is_entity(entity)
	action in _actions[direction]
}

# (The gate reads paths, and refuses what is none.)
_are_fields if {
	is_object(_fields)
	every direction, rules in _fields {
		_actions[direction]
		is_array(rules)
		every rule in rules {
			_is_field(rule)
		}
	}
}

_is_field(rule) if {
	startswith(rule.path, "$")
	rule.action in _field_actions
	count(object.keys(rule) - {"path", "action", "keep", "name"}) == 0
}

_is_entity(entity) if regex.match(`^(\*|[A-Z][A-Z0-9_]{0,63})$`, entity)
