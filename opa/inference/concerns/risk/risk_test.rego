package inference_test.risk

import data.inference
import data.inference.concerns.risk
import data.inference_test.example

_line := {"groups": ["approvers"], "count": 1, "valid_seconds": 900, "within_seconds": 60, "reason": "Much at once."}

_scale := {
	"weights": {
		"findings": {"EMAIL": 1, "IBAN": 5, "*": 2},
		"groups": {"contractors": 3},
		"tags": {"external": 2},
		"models": {"demo": 1},
		"operations": {"chat": 1},
	},
	"approve_at": 7,
	"deny_at": 10,
	"approval": _line,
}

_found(findings) := example.with_value("/findings", findings)

_contractor := json.patch(_found({"EMAIL": 2, "NEVER_HEARD_OF": 1}), [
	{"op": "replace", "path": "/identity/groups", "value": ["analysts", "contractors"]},
	{"op": "replace", "path": "/connection/tags", "value": ["external"]},
])

test_off_by_default if {
	risk.allow with input as _found({"IBAN": 1000})
	risk.demands == set() with input as _found({"IBAN": 1000})
	risk.reasons == set() with input as _found({"IBAN": 1000})
}

test_score if {
	risk.score == 3 with input as example.chat with data.inference.risk as _scale
	risk.score == 11 with input as _contractor with data.inference.risk as _scale
	risk.score == 2 with input as _found({}) with data.inference.risk as _scale
}

test_low if {
	risk.allow with input as example.chat with data.inference.risk as _scale
	risk.demands == set() with input as example.chat with data.inference.risk as _scale
}

test_people_must_agree if {
	decision := inference.decision with input as _found({"IBAN": 1}) with data.inference.risk as _scale
	decision.allow
	decision.approval == _line
}

test_too_high if {
	decision := inference.decision with input as _contractor with data.inference.risk as _scale
	"risk_too_high" in decision.reasons
	decision.approval == null
}

test_without_thresholds_nothing_comes_of_it if {
	endless := _with({"approve_at": null, "deny_at": null, "approval": null})
	risk.allow with input as _contractor with data.inference.risk as endless
	risk.demands == set() with input as _contractor with data.inference.risk as endless
}

test_unknown_score_is_too_high if {
	every findings in [null, {"EMAIL": "many"}] {
		not risk.allow with input as _found(findings) with data.inference.risk as _scale
	}
}

test_demand_that_is_malformed if {
	wrong := object.union(_scale, {"approval": {"count": 0}})
	decision := inference.decision with input as _found({"IBAN": 1}) with data.inference.risk as wrong
	"approval_malformed" in decision.reasons
}

test_malformed if {
	every change in [
		{"weights": {}},
		{"weights": []},
		{"weights": {"findings": [], "groups": {}, "tags": {}, "models": {}, "operations": {}}},
		{"weights": {"findings": {"EMAIL": -1}, "groups": {}, "tags": {}, "models": {}, "operations": {}}},
		{"weights": {"findings": {"EMAIL": "1"}, "groups": {}, "tags": {}, "models": {}, "operations": {}}},
		{"weights": {"findings": {}, "groups": {}, "tags": {}, "models": {}, "operations": {}, "hours": {}}},
		{"approve_at": "7"},
		{"deny_at": "10"},
		{"approval": null},
	] {
		wrong := _with(change)
		risk.reasons == {"risk_malformed"} with input as example.chat with data.inference.risk as wrong
		not risk.allow with input as example.chat with data.inference.risk as wrong
	}
	not risk.allow with input as example.chat with data.inference.risk as {}
}

# In the place of what is there: object.union would join the weights.
_with(change) := {name: value |
	some name, before in _scale
	value := object.get(change, name, before)
}
