# METADATA
# title: Who must agree first
# description: |
#   `data.inference.approval` names models and connection tags whose calls need people to agree. Where several lines
#   meet, all must be satisfied: the largest count, the shortest times, and only groups that every line names. Another
#   concern that wants people to agree has such lines in a set `demands`. Models are compared without regard to case, and
#   a name may have `*` for anything: `*` alone is every call that names a model.
#   A line's `clear_to` names groups whose approvers may read the request as it came: only groups that every line that
#   has one names. A line that has none says nothing of it; where no line has one, all read what the model would get.
#   `data.inference.approval.break_glass` names groups that may go on without, in an emergency, and the code for it.
package inference.concerns.approval

# METADATA
# description: nobody need agree, or it is clear who
default allow := false

allow if {
	_is_well_formed
	not _is_conflict
}

# METADATA
# description: codes of what is against the call
reasons contains "approval_malformed" if not _is_well_formed

reasons contains "approval_conflict" if _is_conflict

# METADATA
# description: the approval that the call needs; null if none
default demand := null

demand := object.union(_clear_to, {
	"groups": sort(_groups),
	"count": max({line.count | some line in _lines}),
	"valid_seconds": min({line.valid_seconds | some line in _lines}),
	"within_seconds": min({line.within_seconds | some line in _lines}),
	"reason": concat(" ", sort({line.reason | some line in _lines})),
}) if {
	allow
	count(_lines) > 0
	not break_glass
}

# METADATA
# description: |
#   the code under which this call passes without anybody's agreement: it needs one, its caller says that it cannot wait,
#   and is in a group that `data.inference.approval.break_glass` names
break_glass := data.inference.approval.break_glass.code if {
	allow
	count(_lines) > 0
	input.request.emergency == true
	some group in input.identity.groups
	group in data.inference.approval.break_glass.groups
}

_lines contains line if {
	some name, line in data.inference.approval.models
	lower(name) == _model
}

_lines contains line if {
	some name, line in data.inference.approval.models
	contains(name, "*")
	glob.match(lower(name), null, _model)
}

_lines contains data.inference.approval.tags[tag] if some tag in input.connection.tags

_lines contains line if some line in data.inference.concerns[_].demands

# Asked strictly, lower(null) would be an error, and an error allows nobody to list models.
_model := lower(input.request.model) if is_string(input.request.model)

_clear_to := {} if count(_readers) == 0

_clear_to := {"clear_to": sort(intersection(_readers))} if count(_readers) > 0

_readers contains {group | some group in line.clear_to} if {
	some line in _lines
	is_array(line.clear_to)
}

_groups := intersection({{group | some group in line.groups} | some line in _lines})

_is_conflict if {
	_is_well_formed
	count(_lines) > 0
	count(_groups) == 0
}

_is_well_formed if {
	is_object(data.inference.approval.models)
	is_object(data.inference.approval.tags)
	every line in _lines {
		_is_line(line)
	}
	_is_glass_well_formed
}

_is_glass_well_formed if not data.inference.approval.break_glass

_is_glass_well_formed if {
	regex.match(`^[a-z][a-z0-9_.-]{0,63}$`, data.inference.approval.break_glass.code)
	is_array(data.inference.approval.break_glass.groups)
}

_is_line(line) if {
	is_array(line.groups)
	count(line.groups) > 0
	every group in line.groups {
		is_string(group)
	}
	_is_positive(line.count)
	_is_positive(line.valid_seconds)
	_is_positive(line.within_seconds)
	is_string(line.reason)
	every group in object.get(line, "clear_to", []) {
		is_string(group)
	}
	is_array(object.get(line, "clear_to", []))
}

_is_positive(value) if {
	is_number(value)
	value >= 1
	value == floor(value)
}
