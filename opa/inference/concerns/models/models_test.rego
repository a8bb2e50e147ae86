package inference.concerns.models_test

import data.inference.concerns.models
import data.inference.example

test_listed_group if models.permit == {"group_may_use_model"} with input as example.chat

test_other_group if {
	other := json.patch(example.chat, [{"op": "replace", "path": "/identity/groups", "value": ["guests"]}])
	models.permit == set() with input as other
}

test_unknown_model if {
	unknown := json.patch(example.chat, [{"op": "replace", "path": "/request/model", "value": "gpt-9"}])
	models.permit == set() with input as unknown
}

test_other_operation if {
	other := json.patch(example.chat, [{"op": "replace", "path": "/request/operation", "value": "opaque"}])
	models.permit == set() with input as other
}

test_listing if models.permit == {"group_may_list_models"} with input as example.listing
