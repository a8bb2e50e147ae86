package inference_test.data_classes

import data.inference
import data.inference.concerns.data_classes
import data.inference_test.example

_house := {
	"classes": {"payment": ["CARD_NUMBER", "IBAN"], "contact": ["EMAIL", "PHONE"]},
	"to": {"payment": {"tags": ["pci"], "models": ["in-house"]}},
}

_card := example.with_value("/findings", {"CARD_NUMBER": 1, "EMAIL": 1})

test_off_by_default if {
	data_classes.allow with input as _card
	data_classes.reasons == set() with input as _card
}

test_other_class if data_classes.allow with input as example.chat with data.inference.data_classes as _house

test_wrong_place if {
	data_classes.reasons == {"data_not_for_this_service"} with input as _card
		with data.inference.data_classes as _house
	not data_classes.allow with input as _card with data.inference.data_classes as _house
	decision := inference.decision with input as _card with data.inference.data_classes as _house
	"data_not_for_this_service" in decision.reasons
}

test_right_tag if {
	question := json.patch(_card, [{"op": "replace", "path": "/connection/tags", "value": ["eu", "pci"]}])
	data_classes.allow with input as question with data.inference.data_classes as _house
}

test_right_model if {
	question := json.patch(_card, [{"op": "replace", "path": "/request/model", "value": "in-house"}])
	data_classes.allow with input as question with data.inference.data_classes as _house
}

test_unclassified if {
	careful := object.union(_house, {"to": {"unclassified": {"tags": ["pci"], "models": []}}})
	unknown := example.with_value("/findings", {"NEVER_HEARD_OF": 1})
	data_classes.reasons == {"data_not_for_this_service"} with input as unknown
		with data.inference.data_classes as careful
	data_classes.allow with input as example.chat with data.inference.data_classes as careful
}

test_not_scanned if {
	not data_classes.allow with input as example.with_value("/findings", null)
		with data.inference.data_classes as _house
}

test_malformed if {
	every wrong in [
		{},
		"all",
		{"classes": {}, "to": []},
		{"classes": {"payment": "IBAN"}, "to": {}},
		{"classes": {"payment": [1]}, "to": {}},
		{"classes": {}, "to": {"payment": {"tags": [], "models": []}}},
		{"classes": {"payment": []}, "to": {"payment": {"tags": []}}},
		{"classes": {"payment": []}, "to": {"payment": {"tags": [], "models": "m"}}},
	] {
		data_classes.reasons == {"data_classes_malformed"} with input as example.chat
			with data.inference.data_classes as wrong
		not data_classes.allow with input as example.chat
			with data.inference.data_classes as wrong
	}
}
