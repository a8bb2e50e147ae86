package inference_test.tools

import data.inference
import data.inference.concerns.tools
import data.inference_test.example

_few := {"demo": 2, "*": 0}

_offering(count) := example.with_value("/request/parameters/tool_count", count)

test_off_by_default if {
	tools.allow with input as _offering(100)
	tools.reasons == set() with input as _offering(100)
}

test_few if {
	tools.allow with input as _offering(2) with data.inference.tools as _few
	tools.reasons == set() with input as _offering(2) with data.inference.tools as _few
}

test_many if {
	every count in [3, "2", null] {
		tools.reasons == {"too_many_tools"} with input as _offering(count) with data.inference.tools as _few
		not tools.allow with input as _offering(count) with data.inference.tools as _few
	}
	decision := inference.decision with input as _offering(3) with data.inference.tools as _few
	"too_many_tools" in decision.reasons
}

test_not_counted if {
	question := example.with_value("/request/parameters", {"media_count": 0})
	not tools.allow with input as question with data.inference.tools as _few
}

test_listing_has_no_tools if tools.allow with input as example.listing with data.inference.tools as _few

test_other_models if {
	other := json.patch(_offering(1), [{"op": "replace", "path": "/request/model", "value": "other"}])
	tools.reasons == {"too_many_tools"} with input as other with data.inference.tools as _few
	tools.allow with input as other with data.inference.tools as {"demo": 0}
}

test_malformed if {
	every wrong in ["all", [], {"demo": "2"}, {"demo": -1}, {"demo": null}] {
		tools.reasons == {"tools_malformed"} with input as example.chat with data.inference.tools as wrong
		not tools.allow with input as example.chat with data.inference.tools as wrong
	}
}
