package inference_test.approval

import data.inference.concerns.approval
import data.inference_test.example

_line := {"groups": ["a", "b"], "count": 1, "valid_seconds": 900, "within_seconds": 60, "reason": "R1."}

_other := {"groups": ["b", "c"], "count": 2, "valid_seconds": 300, "within_seconds": 90, "reason": "R2."}

_tagged := example.with_value("/connection/tags", ["one", "two"])

test_ordinary_model if {
	approval.allow with input as example.chat
	approval.demand == null with input as example.chat
	approval.reasons == set() with input as example.chat
}

test_restricted_model if {
	approval.demand.count == 1 with input as example.restricted
	approval.demand.groups == ["approvers"] with input as example.restricted
}

_asks_for(model) := example.with_value("/request/model", model)

test_models_without_regard_to_case if {
	every model in ["demo-restricted", "Demo-Restricted", "DEMO-RESTRICTED"] {
		approval.demand.count == 1 with input as _asks_for(model)
			with data.inference.approval as {"models": {"Demo-restricted": _line}, "tags": {}}
	}
}

test_models_by_pattern if {
	named := {"models": {"*Restricted*": _line, "*": _other}, "tags": {}}
	approval.demand.reason == "R1. R2." with input as _asks_for("openai/Demo.Restricted-2") with data.inference.approval as named
	approval.demand.reason == "R2." with input as _asks_for("any.thing") with data.inference.approval as named
	approval.demand == null with input as _asks_for(null) with data.inference.approval as named
	approval.demand == null with input as _asks_for("any")
		with data.inference.approval as {"models": {"a?y": _line, "[a]ny": _line}, "tags": {}}
}

test_who_reads_it_as_it_came if {
	every case in [
		[["a", "b"], ["b", "c"], ["b"]],
		[["a"], ["c"], []],
		[[], ["c"], []],
	] {
		lines := {"one": object.union(_line, {"clear_to": case[0]}), "two": object.union(_other, {"clear_to": case[1]})}
		approval.demand.clear_to == case[2] with input as _tagged with data.inference.approval as {"models": {}, "tags": lines}
	}
	approval.demand.clear_to == ["b"] with input as _tagged
		with data.inference.approval as {"models": {}, "tags": {"one": object.union(_line, {"clear_to": ["b"]}), "two": _other}}
}

test_tag if {
	approval.demand.groups == ["approvers"] with input as example.with_value("/connection/tags", ["high-risk"])
}

test_several_are_joined_strictly if {
	approval.demand == {
		"groups": ["b"],
		"count": 2,
		"valid_seconds": 300,
		"within_seconds": 60,
		"reason": "R1. R2.",
	} with input as _tagged
		with data.inference.approval as {"models": {}, "tags": {"one": _line, "two": _other}}
}

test_conflict if {
	apart := {"models": {}, "tags": {"one": _line, "two": object.union(_other, {"groups": ["c"]})}}
	approval.reasons == {"approval_conflict"} with input as _tagged
		with data.inference.approval as apart
	not approval.allow with input as _tagged
		with data.inference.approval as apart
	approval.demand == null with input as _tagged
		with data.inference.approval as apart
}

test_malformed if {
	every change in [
		{"groups": []},
		{"groups": "a"},
		{"groups": [1]},
		{"count": 0},
		{"count": "1"},
		{"valid_seconds": 1.5},
		{"within_seconds": null},
		{"reason": null},
		{"clear_to": "a"},
		{"clear_to": [1]},
	] {
		lines := {"models": {}, "tags": {"one": object.union(_line, change)}}
		approval.reasons == {"approval_malformed"} with input as _tagged
			with data.inference.approval as lines
		not approval.allow with input as _tagged
			with data.inference.approval as lines
	}
}

test_misspelt_data_do_not_wave_through if {
	not approval.allow with input as example.restricted
		with data.inference.approval as {"model": {}, "tags": {}}
}

_emergency := object.union(example.restricted, {"request": {"emergency": true}})

_glass := {"code": "emergency", "groups": ["analysts"]}

test_emergency_of_whom_it_is_for if {
	glass := object.union(data.inference.approval, {"break_glass": _glass})
	approval.allow with input as _emergency with data.inference.approval as glass
	approval.demand == null with input as _emergency with data.inference.approval as glass
	approval.break_glass == "emergency" with input as _emergency with data.inference.approval as glass
}

test_emergency_of_others if {
	glass := object.union(data.inference.approval, {"break_glass": object.union(_glass, {"groups": ["others"]})})
	approval.demand.count == 1 with input as _emergency with data.inference.approval as glass
	not approval.break_glass with input as _emergency with data.inference.approval as glass
}

test_no_emergency if {
	glass := object.union(data.inference.approval, {"break_glass": _glass})
	approval.demand.count == 1 with input as example.restricted with data.inference.approval as glass
	not approval.break_glass with input as example.restricted with data.inference.approval as glass
}

test_emergency_where_nobody_need_agree if {
	glass := object.union(data.inference.approval, {"break_glass": _glass})
	calm := object.union(example.chat, {"request": {"emergency": true}})
	not approval.break_glass with input as calm with data.inference.approval as glass
}

test_malformed_glass if {
	every change in [{"code": "Not a code"}, {"code": null}, {"groups": "analysts"}] {
		glass := object.union(data.inference.approval, {"break_glass": object.union(_glass, change)})
		not approval.allow with input as _emergency with data.inference.approval as glass
		approval.demand == null with input as _emergency with data.inference.approval as glass
	}
}
