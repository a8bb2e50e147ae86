package inference.concerns.limits_test

import data.inference.concerns.limits
import data.inference.example

test_within if limits.deny == set() with input as example.chat

test_tokens if {
	many := json.patch(example.chat, [{"op": "replace", "path": "/request/parameters/max_tokens", "value": 100000}])
	limits.deny == {"too_many_tokens_asked"} with input as many
}

test_body if {
	large := json.patch(example.chat, [{"op": "replace", "path": "/request/body_bytes", "value": 99999999}])
	limits.deny == {"body_too_large"} with input as large
}
