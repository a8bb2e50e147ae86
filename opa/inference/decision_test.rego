package inference_test

import data.inference
import data.inference.example

test_analyst_may_chat if {
	decision := inference.decision with input as example.chat
	decision.allow
	decision.reasons == ["group_may_use_model"]
	decision.approval == null
	decision.record.payloads
	decision.redact.request == [{"entity": "*", "action": "mask"}]
}

test_stranger_may_not if {
	decision := inference.decision with input as json.patch(
		example.chat,
		[{"op": "replace", "path": "/identity/groups", "value": ["guests"]}],
	)
	not decision.allow
	decision.reasons == ["not_permitted"]
}

test_denial_beats_permission if {
	decision := inference.decision with input as json.patch(
		example.chat,
		[{"op": "add", "path": "/findings/SECRET_GITHUB", "value": 1}],
	)
	not decision.allow
	decision.reasons == ["secret_in_prompt"]
}

test_restricted_model_needs_approval if {
	decision := inference.decision with input as json.patch(
		example.chat,
		[{"op": "replace", "path": "/request/model", "value": "demo-restricted"}],
	)
	decision.allow
	decision.approval.groups == ["approvers"]
}

test_approval_is_not_demanded_of_the_denied if {
	decision := inference.decision with input as json.patch(example.chat, [
		{"op": "replace", "path": "/request/model", "value": "demo-restricted"},
		{"op": "replace", "path": "/identity/groups", "value": []},
	])
	not decision.allow
	decision.approval == null
}

test_without_settings_nothing_is_allowed if {
	decision := inference.decision with input as example.chat with data.settings as {}
	not decision.allow
	decision.reasons == ["policy_undefined"]
}

# Leaving out, emptying or mistyping any one field never allows. These fields may be null.
_optional := {
	["identity", "client"],
	["identity", "tenant"],
}

# Below these any name may stand.
_is_open(path) if {
	path[0] == "findings"
	count(path) > 1
}

_is_open(path) if {
	array.slice(path, 0, 2) == ["request", "parameters"]
	count(path) > 2
}

_is_open(["identity", "groups", 0])

_fields contains path if {
	walk(example.chat, [path, _])
	count(path) > 0
	not _is_open(path)
}

test_every_field_matters if {
	every path in _fields {
		pointer := concat("/", array.concat([""], path))
		dropped := json.patch(example.chat, [{"op": "remove", "path": pointer}])
		not inference.decision.allow with input as dropped
	}
}

test_no_field_may_be_null if {
	every path in _fields - _optional {
		pointer := concat("/", array.concat([""], path))
		emptied := json.patch(example.chat, [{"op": "replace", "path": pointer, "value": null}])
		not inference.decision.allow with input as emptied
	}
}

test_no_field_may_be_of_another_type if {
	every path in _fields {
		pointer := concat("/", array.concat([""], path))
		mistyped := json.patch(example.chat, [{"op": "replace", "path": pointer, "value": [[]]}])
		not inference.decision.allow with input as mistyped
	}
}

test_no_question_is_no_permission if {
	not inference.decision.allow with input as {}
}
