package inference_test.models

import data.inference.concerns.models
import data.inference_test.example

test_listed_group if {
	models.allow with input as example.chat
	models.reasons == set() with input as example.chat
}

test_other_group if {
	question := example.with_value("/identity/groups", ["guests"])
	models.reasons == {"not_permitted"} with input as question
}

test_no_group if {
	not models.allow with input as example.with_value("/identity/groups", [])
}

test_unknown_model if {
	not models.allow with input as example.with_value("/request/model", "gpt-9")
}

test_other_operation if {
	not models.allow with input as example.with_value("/request/operation", "opaque")
}

test_listing if models.allow with input as example.listing

test_listing_by_others if {
	not models.allow with input as json.patch(
		example.listing,
		[{"op": "replace", "path": "/identity/groups", "value": ["guests"]}],
	)
}

_open := {"*": {"groups": ["*"], "operations": ["*"]}, "demo": {"groups": ["staff"], "operations": ["chat"]}}

test_any_model if {
	models.allow with input as example.with_value("/request/model", "gpt-9")
		with data.inference.models as _open
}

test_own_line_counts_before_any if {
	not models.allow with input as example.chat
		with data.inference.models as _open
}

test_star_is_not_a_name if {
	named := {"*": {"groups": ["guests"], "operations": ["chat"]}}
	not models.allow with input as example.with_value("/request/model", "*")
		with data.inference.models as named
}
