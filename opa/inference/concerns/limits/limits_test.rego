package inference_test.limits

import data.inference.concerns.limits
import data.inference_test.example

test_within if {
	limits.allow with input as example.chat
	limits.reasons == set() with input as example.chat
}

test_tokens if {
	every name in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
		many := example.with_value("/request/parameters", {name: 100000})
		limits.reasons == {"too_many_tokens_asked"} with input as many
		not limits.allow with input as many
	}
}

test_tokens_of_another_type if {
	not limits.allow with input as example.with_value("/request/parameters/max_tokens", "many")
	not limits.allow with input as example.with_value("/request/parameters/max_tokens", true)
}

test_tokens_left_out if {
	limits.allow with input as example.with_value("/request/parameters", {"max_tokens": null, "stop": "."})
}

test_body if {
	limits.reasons == {"body_too_large"} with input as example.with_value("/request/body_bytes", 99999999)
}

test_no_bound if {
	limits.allow with input as example.with_value("/request/body_bytes", 99999999)
		with data.inference.limits as {"body_bytes": null, "max_tokens": null}
}

test_malformed if {
	every data_limits in [{}, null, {"body_bytes": 1}, {"body_bytes": "1", "max_tokens": 1}] {
		limits.reasons == {"limits_malformed"} with input as example.chat
			with data.inference.limits as data_limits
		not limits.allow with input as example.chat
			with data.inference.limits as data_limits
	}
}
