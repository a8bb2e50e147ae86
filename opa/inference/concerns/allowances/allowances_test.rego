package inference_test.allowances

import data.inference
import data.inference.concerns.allowances
import data.inference_test.example

_small := {
	"groups": {"analysts": {"output_tokens": 100, "cost": null}},
	"prices": {},
}

_priced := {
	"groups": {"analysts": {"output_tokens": null, "cost": 0.001}},
	"prices": {"demo": {"input": 1, "output": 10}},
}

_asking(parameters) := example.with_value("/request/parameters", parameters)

test_off_by_default if {
	allowances.allow with input as example.chat
	allowances.reasons == set() with input as example.chat
}

test_within if {
	allowances.allow with input as example.chat with data.inference.allowances as _small
	allowances.reasons == set() with input as example.chat with data.inference.allowances as _small
}

test_too_many_tokens if {
	every parameters in [
		{"max_tokens": 101},
		{"max_tokens": 1, "n_predict": 101},
		{"max_tokens": 60, "n": 2},
		{"max_tokens": 60, "n": 1, "best_of": 3},
		{"max_tokens": "many"},
		{"max_tokens": 1, "n": "many"},
		{"max_tokens": -5},
		{"max_tokens": null},
		{},
	] {
		question := _asking(parameters)
		allowances.reasons == {"allowance_tokens"} with input as question with data.inference.allowances as _small
		not allowances.allow with input as question with data.inference.allowances as _small
	}
}

test_nothing_is_generated if {
	question := json.patch(_asking({}), [{"op": "replace", "path": "/request/operation", "value": "embedding"}])
	allowances.allow with input as question with data.inference.allowances as _small
	allowances.allow with input as example.listing with data.inference.allowances as _small
}

test_most_generous_line_counts if {
	question := json.patch(_asking({"max_tokens": 500}), [{
		"op": "replace",
		"path": "/identity/groups",
		"value": ["analysts", "researchers"],
	}])
	several := object.union(_small, {"groups": {"researchers": {"output_tokens": 1000, "cost": 1}}})
	allowances.allow with input as question with data.inference.allowances as several
	endless := object.union(_small, {"groups": {"researchers": {"output_tokens": null, "cost": null}}})
	allowances.allow with input as question with data.inference.allowances as endless
}

test_everybody if {
	everybody := {"groups": {"*": {"output_tokens": 100, "cost": null}}, "prices": {}}
	allowances.allow with input as example.chat with data.inference.allowances as everybody
}

test_who_has_no_line if {
	question := example.with_value("/identity/groups", ["guests"])
	allowances.reasons == {"no_allowance"} with input as question with data.inference.allowances as _small
	not allowances.allow with input as question with data.inference.allowances as _small
}

test_cost if {
	allowances.allow with input as example.chat with data.inference.allowances as _priced
	allowances.reasons == {"allowance_cost"} with input as _asking({"max_tokens": 100})
		with data.inference.allowances as _priced
	allowances.reasons == {"allowance_cost"} with input as example.with_value("/request/text_bytes", 1000)
		with data.inference.allowances as _priced
}

test_model_without_a_price if {
	allowances.reasons == {"allowance_cost"} with input as example.restricted
		with data.inference.allowances as _priced
}

test_told_in_the_decision if {
	decision := inference.decision with input as _asking({"max_tokens": 101, "media_count": 0})
		with data.inference.allowances as _small
	"allowance_tokens" in decision.reasons
}

test_malformed if {
	every wrong in [
		{},
		"all",
		{"groups": []},
		{"groups": {}, "prices": null},
		{"groups": {"a": {"output_tokens": 1}}, "prices": {}},
		{"groups": {"a": {"output_tokens": "1", "cost": null}}, "prices": {}},
		{"groups": {"a": {"output_tokens": -1, "cost": null}}, "prices": {}},
		{"groups": {"a": 1}, "prices": {}},
		{"groups": {}, "prices": {"demo": {"input": 1}}},
	] {
		allowances.reasons == {"allowances_malformed"} with input as example.chat with data.inference.allowances as wrong
		not allowances.allow with input as example.chat with data.inference.allowances as wrong
	}
}
