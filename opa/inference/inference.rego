# METADATA
# title: May this call pass?
# description: |
#   Collects the concerns: every package in data.inference.concerns has a rule `allow` (true: nothing against it) and
#   a set `reasons` (codes of what is against it). To add a concern, add a folder; nothing else changes.
#   A call passes only if every concern says yes. What is not known is not allowed.
# scope: subpackages
# schemas:
#   - input: schema.question
package inference

# METADATA
# title: the decision
# description: the one document that the gate asks for, of exactly the shape in opa/schemas/decision.json
# entrypoint: true
decision := {
	"allow": _is_allowed,
	"reasons": sort(_reasons),
	"redact": data.inference.concerns.masking.redact,
	"approval": _approval,
	"record": data.inference.concerns.record.record,
}

default _is_allowed := false

_is_allowed if {
	# Named, so that a bundle without them allows nothing.
	data.inference.concerns.question.allow == true
	data.inference.concerns.models.allow == true
	data.inference.concerns.secrets.allow == true

	every concern in data.inference.concerns {
		concern.allow == true
	}

	count(_codes) == 0
}

_codes contains code if some code in data.inference.concerns[_].reasons

_reasons := _codes if {
	count(_codes) > 0
} else := set() if {
	_is_allowed
} else := {"not_allowed"}

# Nobody is asked about a call that is refused anyway.
_approval := data.inference.concerns.approval.demand if {
	_is_allowed
} else := null
