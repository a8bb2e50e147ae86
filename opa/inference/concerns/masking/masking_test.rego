package inference_test.masking

import data.inference
import data.inference.concerns.masking
import data.inference_test.example

_mask_all := [{"entity": "*", "action": "mask"}]

test_default if {
	masking.allow
	masking.reasons == set()
	masking.redact == {"request": _mask_all, "response": _mask_all}
}

test_lines_are_kept if {
	data_lines := {"request": {"EMAIL": "hash"}, "response": {"*": "drop"}}
	masking.redact == {
		"request": [{"entity": "*", "action": "mask"}, {"entity": "EMAIL", "action": "hash"}],
		"response": [{"entity": "*", "action": "drop"}],
	} with data.inference.masking as data_lines
}

test_fields_are_carried if {
	birth := {"path": "$..birth_date", "action": "mask", "keep": "date", "name": "BIRTH_DATE"}
	lists := {"request": {}, "response": {}, "fields": {"request": [birth]}}
	masking.allow with data.inference.masking as lists
	masking.redact == {
		"request": [{"entity": "*", "action": "mask"}, birth],
		"response": _mask_all,
	} with data.inference.masking as lists
}

test_malformed_fields if {
	every fields in [
		{"request": {"path": "$.a", "action": "mask"}},
		{"request": [{"path": "a", "action": "mask"}]},
		{"request": [{"path": 1, "action": "mask"}]},
		{"request": [{"path": "$.a", "action": "allow"}]},
		{"response": [{"path": "$.a"}]},
		{"response": [{"path": "$.a", "action": "mask", "why": "so"}]},
		{"response": ["$.a"]},
		{"requests": [{"path": "$.a", "action": "mask"}]},
		{"request": null},
		{"response": false},
		[],
		"$.a",
		null,
		false,
	] {
		lists := {"request": {}, "response": {}, "fields": fields}
		masking.reasons == {"masking_malformed"} with data.inference.masking as lists
		masking.redact == {"request": _mask_all, "response": _mask_all} with data.inference.masking as lists
	}
}

test_malformed if {
	every lines in [
		{},
		null,
		{"request": {}},
		{"request": {"*": "mask"}, "response": []},
		{"request": {"*": "maks"}, "response": {}},
		{"request": {"email": "mask"}, "response": {}},
		{"request": {}, "response": {"EMAIL": "tokenise"}},
		{"request": {}, "response": {}, "field": {}},
		{"request": {}, "response": {}, "role": {}},
		{"request": {}, "response": {}, "restores": {}},
		{"request": {}, "response": {}, "restore": ["EMAIL"]},
		{"request": {}, "response": {}, "restore": null},
		{"request": {}, "response": {}, "restore": {"support": "EMAIL"}},
		{"request": {}, "response": {}, "restore": {"support": ["email"]}},
		{"request": {}, "response": {}, "restore": {"support": [1]}},
		{"request": {}, "response": {}, "roles": null},
		{"request": {}, "response": {}, "roles": {"analysts": []}},
		{"request": {}, "response": {}, "roles": {"analysts": {"answer": {}}}},
		{"request": {}, "response": {}, "roles": {"analysts": {"answer": {"EMAIL": "mask"}}}},
		{"request": {}, "response": {}, "roles": {"analysts": {"request": {"EMAIL": "maks"}}}},
		{"request": {}, "response": {}, "roles": {"analysts": {"response": {"EMAIL": "tokenise"}}}},
	] {
		masking.reasons == {"masking_malformed"} with data.inference.masking as lines
		not masking.allow with data.inference.masking as lines
		masking.redact.response == _mask_all with data.inference.masking as lines
	}
}

# An example to take over: the model reads tokens for addresses and numbers, and the people of support, who wrote them,
# get them back in the answer.
_worked := {
	"request": {"*": "mask", "EMAIL": "tokenise", "PHONE": "tokenise"},
	"response": {"*": "mask"},
	"restore": {"support": ["EMAIL", "PHONE"], "leads": ["EMAIL"]},
}

test_support_gets_its_values_back if {
	decision := inference.decision with input as example.with_value("/identity/groups", ["analysts", "support"])
		with data.inference.masking as _worked
	decision.allow
	decision.redact == {
		"request": [
			{"entity": "*", "action": "mask"},
			{"entity": "EMAIL", "action": "tokenise"},
			{"entity": "PHONE", "action": "tokenise"},
		],
		"response": _mask_all,
		"restore": ["EMAIL", "PHONE"],
	}
}

test_others_keep_the_tokens if {
	decision := inference.decision with input as example.chat with data.inference.masking as _worked
	decision.allow
	not "restore" in object.keys(decision.redact)
}

test_nothing_is_restored_by_default if {
	decision := inference.decision with input as example.with_value("/identity/groups", ["analysts", "support"])
	decision.redact == {"request": _mask_all, "response": _mask_all}
}

_roles := {
	"request": {"*": "mask", "EMAIL": "hash"},
	"response": {"*": "mask"},
	"roles": {
		"clinicians": {"response": {"DIAGNOSIS": "allow", "EMAIL": "partial"}},
		"trainees": {"request": {"EMAIL": "drop"}, "response": {"DIAGNOSIS": "partial", "EMAIL": "hash"}},
	},
}

_asked_by(groups) := object.union(example.chat, {"identity": {"groups": groups}})

test_everybody_else_has_the_common_lines if {
	masking.redact == {
		"request": [{"entity": "*", "action": "mask"}, {"entity": "EMAIL", "action": "hash"}],
		"response": _mask_all,
	} with input as _asked_by(["analysts"])
		with data.inference.masking as _roles
}

test_role_has_lines_of_its_own if {
	masking.redact.response == [
		{"entity": "*", "action": "mask"},
		{"entity": "DIAGNOSIS", "action": "allow"},
		{"entity": "EMAIL", "action": "partial"},
	] with input as _asked_by(["analysts", "clinicians"])
		with data.inference.masking as _roles
}

test_strictest_of_several_roles if {
	asked := _asked_by(["clinicians", "trainees"])
	masking.redact == {
		"request": [{"entity": "*", "action": "mask"}, {"entity": "EMAIL", "action": "drop"}],
		"response": [
			{"entity": "*", "action": "mask"},
			{"entity": "DIAGNOSIS", "action": "partial"},
			{"entity": "EMAIL", "action": "hash"},
		],
	} with input as asked
		with data.inference.masking as _roles
	masking.allow with input as asked with data.inference.masking as _roles
}
