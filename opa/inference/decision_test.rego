package inference_test.decision

import data.inference
import data.inference_test.example

test_analyst_may_chat if {
	decision := inference.decision with input as example.chat
	decision == {
		"allow": true,
		"reasons": [],
		"redact": {
			"request": [{"entity": "*", "action": "mask"}],
			"response": [{"entity": "*", "action": "mask"}],
		},
		"approval": null,
		"record": {"payloads": true},
	}
}

test_analyst_may_list_models if {
	inference.decision.allow with input as example.listing
}

# Data that switch a further concern on (allowances by group) may add reasons of their own to these.
test_stranger_may_not if {
	decision := inference.decision with input as example.with_value("/identity/groups", ["guests"])
	not decision.allow
	"not_permitted" in decision.reasons
}

test_denial_beats_permission if {
	decision := inference.decision with input as example.with_value("/findings", {"SECRET_GITHUB": 1})
	not decision.allow
	decision.reasons == ["secret_in_prompt"]
}

test_all_reasons_are_told if {
	asked := json.patch(example.chat, [
		{"op": "replace", "path": "/findings", "value": {"SECRET_GITHUB": 1}},
		{"op": "replace", "path": "/identity/groups", "value": []},
	])
	decision := inference.decision with input as asked
	every code in ["not_permitted", "secret_in_prompt"] {
		code in decision.reasons
	}
}

test_restricted_model_needs_approval if {
	decision := inference.decision with input as example.restricted
	decision.allow
	decision.approval.groups == ["approvers"]
}

test_approval_is_not_demanded_of_the_denied if {
	decision := inference.decision with input as json.patch(
		example.restricted,
		[{"op": "replace", "path": "/identity/groups", "value": []}],
	)
	not decision.allow
	decision.approval == null
}

test_emergency_is_told if {
	asked := json.patch(example.restricted, [
		{"op": "replace", "path": "/request/emergency", "value": true},
		{"op": "replace", "path": "/identity/groups", "value": ["analysts", "incident-commanders"]},
	])
	decision := inference.decision with input as asked
	decision.allow
	decision.approval == null
	decision.break_glass == "emergency"
}

test_emergency_of_the_denied_is_not if {
	asked := json.patch(example.restricted, [
		{"op": "replace", "path": "/request/emergency", "value": true},
		{"op": "replace", "path": "/identity/groups", "value": ["incident-commanders"]},
	])
	decision := inference.decision with input as asked
	not decision.allow
	not "break_glass" in object.keys(decision)
}

test_concern_that_says_nothing_denies if {
	decision := inference.decision with input as example.chat
		with data.inference.concerns.limits as {}
	not decision.allow
	decision.reasons == ["no_reason_given"]
}

test_further_concern_counts if {
	decision := inference.decision with input as example.chat
		with data.inference.concerns.night as {"allow": false, "reasons": set()}
	not decision.allow
	decision.reasons == ["no_reason_given"]
}

test_without_concerns_nothing_is_allowed if {
	decision := inference.decision with input as example.chat
		with data.inference.concerns.models as {"allow": false}
		with data.inference.concerns.shape as {"allow": false}
		with data.inference.concerns.secrets as {"allow": false}
	not decision.allow
}

test_reason_of_a_concern_that_says_yes_denies if {
	decision := inference.decision with input as example.chat
		with data.inference.concerns.limits as {"allow": true, "reasons": {"body_too_large"}}
	not decision.allow
}

test_without_approval_data_nothing_is_allowed if {
	not inference.decision.allow with input as example.chat
		with data.inference.approval as {}
}

test_without_limits_data_nothing_is_allowed if {
	not inference.decision.allow with input as example.chat
		with data.inference.limits as {}
}

test_without_masking_data_nothing_is_allowed if {
	not inference.decision.allow with input as example.chat
		with data.inference.masking as {}
}

test_without_models_data_nothing_is_allowed if {
	not inference.decision.allow with input as example.chat
		with data.inference.models as {}
}

test_without_record_data_nothing_is_allowed if {
	not inference.decision.allow with input as example.chat
		with data.inference.record as {}
}

# Leaving out, emptying or mistyping any one field never allows. These fields may be null.
_optional := {
	["identity", "client"],
	["identity", "tenant"],
	["request", "parameters", "max_tokens"],
	["request", "parameters", "message_count"],
	["request", "parameters", "tool_count"],
}

# These may be left out: what a caller may leave out, what was not found, and one group that does not matter.
_open := {
	["request", "betas", 0],
	["request", "parameters", "max_tokens"],
	["request", "parameters", "message_count"],
	["request", "parameters", "tool_count"],
	["findings", "EMAIL"],
}

_fields contains path if {
	some question in {example.chat, example.with_value("/identity/groups", ["analysts", "more"])}
	walk(question, [path, _])
	count(path) > 0
	path != ["identity", "groups", 1]
}

_pointer(path) := concat("/", array.concat([""], [sprintf("%v", [part]) | some part in path]))

test_every_field_matters if {
	every path in _fields - _open {
		dropped := json.patch(example.chat, [{"op": "remove", "path": _pointer(path)}])
		not inference.decision.allow with input as dropped
	}
}

test_no_field_may_be_null if {
	every path in _fields - _optional {
		not inference.decision.allow with input as example.with_value(_pointer(path), null)
	}
}

test_no_field_may_be_of_another_type if {
	every path in _fields {
		every value in [[[]], {"a": {}}] {
			not inference.decision.allow with input as example.with_value(_pointer(path), value)
		}
	}
}

test_no_question_is_no_permission if {
	every question in [{}, [], null, "chat", true, 1] {
		not inference.decision.allow with input as question
	}
}

test_every_code_has_a_text if {
	codes := {code | some name, text in data.inference.reasons; is_string(text); code := name}
	every code in {"no_reason_given", "not_permitted", "question_malformed", "secret_in_prompt"} {
		code in codes
	}
}
