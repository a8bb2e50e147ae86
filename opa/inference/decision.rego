# METADATA
# title: decision
# description: |
#   Collects what the concerns say into one decision. A call is allowed only if the question has its exact shape,
#   somebody permits it, and nobody denies it. A new concern is a new folder under concerns/; nothing here changes.
# schemas:
#   - input: schema.input
package inference

default decision := {
	"allow": false,
	"reasons": ["policy_undefined"],
	"redact": {"request": [], "response": []},
	"approval": null,
	"record": {"payloads": true},
}

# METADATA
# description: the answer to the gate, of exactly this shape
# entrypoint: true
decision := {
	"allow": _allow,
	"reasons": sort(_reasons),
	"redact": data.settings.redact,
	"approval": _approval,
	"record": data.settings.record,
}

default _allow := false

_allow if {
	data.inference.concerns.shape.valid
	count(_denied) == 0
	count(_permitted) > 0
}

_permitted contains code if some code in data.inference.concerns[_].permit

_denied contains code if some code in data.inference.concerns[_].deny

_denied contains "question_malformed" if not data.inference.concerns.shape.valid

_reasons := _permitted if _allow

_reasons := _denied if {
	not _allow
	count(_denied) > 0
}

_reasons := {"not_permitted"} if {
	not _allow
	count(_denied) == 0
}

default _approval := null

_approval := demanded if {
	_allow
	demanded := data.inference.concerns.approval.demand
}
