# METADATA
# title: May this call pass?
# description: |
#   Collects the concerns. Each package in data.inference.concerns has a rule `allow` (true: nothing against it; always
#   `default allow := false`) and a set `reasons` (codes of what is against it). A call passes only if every concern
#   says yes, so what is not known is not allowed. To add a concern, add a folder under concerns/; nothing here changes.
#   One that wants people to agree has lines in a set `demands` (see the concern approval).
# scope: subpackages
# schemas:
#   - input: schema.question
package inference

# METADATA
# title: the decision
# description: the one document that the gate asks for, of exactly the shape in opa/schemas/decision.json
# entrypoint: true
decision := object.union(
	{
		"allow": _is_allowed,
		"reasons": sort(_reasons),
		"redact": data.inference.concerns.masking.redact,
		"approval": _approval,
		"record": data.inference.concerns.record.record,
	},
	_broken_glass,
)

# Named, so that a bundle without them, or one in which their rule is undefined, allows nothing.
_required := {
	"allowances", "approval", "data_classes", "limits", "masking", "media", "models", "networks", "office_hours",
	"record", "risk", "secrets", "shape", "tools",
}

default _is_allowed := false

_is_allowed if {
	count(_required - object.keys(_said)) == 0
	{said | some said in _said} == {true}
	count(_codes) == 0
}

# One look at each: `data.inference.concerns` is walked once for what they say, once for why.
_said := {name: said | said := data.inference.concerns[name].allow}

_codes := {code | some code in data.inference.concerns[_].reasons}

_reasons := _codes if {
	count(_codes) > 0
} else := set() if {
	_is_allowed
} else := {"no_reason_given"}

# Nobody is asked about a call that is refused anyway.
_approval := data.inference.concerns.approval.demand if {
	_is_allowed
} else := null

default _broken_glass := {}

_broken_glass := {"break_glass": data.inference.concerns.approval.break_glass} if _is_allowed
