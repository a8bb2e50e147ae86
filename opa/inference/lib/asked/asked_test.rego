package inference_test.asked

import data.inference.lib.asked
import data.inference_test.example

test_every_name_counts if {
	every name in asked.token_parameters {
		asked.output_tokens == {name: 7} with input as example.with_value("/request/parameters", {name: 7})
	}
}

test_null_is_left_out if {
	asked.output_tokens == {} with input as example.with_value("/request/parameters", {"max_tokens": null})
	asked.answers == {} with input as example.with_value("/request/parameters", {"n": null})
}

test_answers if {
	asked.answers == {"n": 3} with input as example.with_value("/request/parameters", {"n": 3, "max_tokens": 1})
}

test_other_types_are_told if {
	asked.output_tokens == {"max_tokens": "many"} with input as example.with_value(
		"/request/parameters",
		{"max_tokens": "many"},
	)
}
