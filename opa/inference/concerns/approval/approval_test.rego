package inference.concerns.approval_test

import data.inference.concerns.approval
import data.inference.example

test_ordinary_model if not approval.demand with input as example.chat

test_restricted_model if {
	restricted := json.patch(example.chat, [{"op": "replace", "path": "/request/model", "value": "demo-restricted"}])
	approval.demand.count == 1 with input as restricted
}
