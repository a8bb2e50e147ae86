package inference_test.shape

import data.inference.concerns.shape
import data.inference_test.example

test_chat if shape.allow with input as example.chat

test_listing if shape.allow with input as example.listing

test_client_may_be_named if shape.allow with input as example.with_value("/identity/client", "notebook")

test_certificate if shape.allow with input as example.with_value("/identity/method", "mtls")

test_no_betas if shape.allow with input as example.with_value("/request/betas", [])

test_malformed if {
	every change in [
		["/schema", "affidavit/question/v2"],
		["/exchange_id", ""],
		["/identity/subject", ""],
		["/identity/method", "none"],
		["/identity/groups", "analysts"],
		["/identity/groups", [1]],
		["/identity/tenant", 7],
		["/request/model", null],
		["/request/model", ""],
		["/request/stream", "false"],
		["/request/betas", null],
		["/request/betas", "prompt-caching-2024-07-31"],
		["/request/betas", [1]],
		["/request/body_bytes", -1],
		["/request/text_bytes", 1.5],
		["/request/parameters", {"stop": ["a"]}],
		["/findings", {"EMAIL": -1}],
		["/findings", {"EMAIL": "1"}],
		["/time/hour", 24],
		["/time/now", "2026-11-24"],
		["/time/weekday", "Tuesday"],
		["/source/user_agent", null],
	] {
		question := example.with_value(change[0], change[1])
		shape.reasons == {"question_malformed"} with input as question
		not shape.allow with input as question
	}
}

test_empty if {
	not shape.allow with input as {}
}
