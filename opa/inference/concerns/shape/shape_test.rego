package inference.concerns.shape_test

import data.inference.concerns.shape
import data.inference.example

test_chat_is_valid if shape.valid with input as example.chat

test_listing_is_valid if shape.valid with input as example.listing

test_client_may_be_named if {
	named := json.patch(example.chat, [{"op": "replace", "path": "/identity/client", "value": "notebook"}])
	shape.valid with input as named
}

test_chat_without_model_is_not if {
	nameless := json.patch(example.chat, [{"op": "replace", "path": "/request/model", "value": null}])
	not shape.valid with input as nameless
}

test_negative_count_is_not if {
	negative := json.patch(example.chat, [{"op": "add", "path": "/findings/EMAIL", "value": -1}])
	not shape.valid with input as negative
}

test_empty_is_not if {
	not shape.valid with input as {}
}
