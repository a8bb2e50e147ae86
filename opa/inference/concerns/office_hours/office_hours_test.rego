package inference_test.office_hours

import data.inference
import data.inference.concerns.office_hours
import data.inference_test.example

_week := ["monday", "tuesday", "wednesday", "thursday", "friday"]

_day := {"*": {"from": 6, "to": 22, "weekdays": _week}}

_at(weekday, hour) := json.patch(example.chat, [
	{"op": "replace", "path": "/time/weekday", "value": weekday},
	{"op": "replace", "path": "/time/hour", "value": hour},
])

test_off_by_default if {
	office_hours.allow with input as _at("sunday", 3)
	office_hours.reasons == set() with input as _at("sunday", 3)
}

test_within if {
	every hour in [6, 12, 21] {
		office_hours.allow with input as _at("friday", hour) with data.inference.office_hours as _day
	}
}

test_outside if {
	every question in [_at("friday", 5), _at("friday", 22), _at("sunday", 12)] {
		office_hours.reasons == {"outside_office_hours"} with input as question
			with data.inference.office_hours as _day
		not office_hours.allow with input as question with data.inference.office_hours as _day
	}
	decision := inference.decision with input as _at("friday", 5) with data.inference.office_hours as _day
	"outside_office_hours" in decision.reasons
}

test_night if {
	night := {"demo": {"from": 22, "to": 6, "weekdays": _week}}
	every hour in [22, 23, 0, 5] {
		office_hours.allow with input as _at("monday", hour) with data.inference.office_hours as night
	}
	not office_hours.allow with input as _at("monday", 6) with data.inference.office_hours as night
	not office_hours.allow with input as _at("monday", 21) with data.inference.office_hours as night
}

test_own_line_counts_before_any if {
	both := object.union(_day, {"demo": {"from": 0, "to": 24, "weekdays": ["sunday"]}})
	office_hours.allow with input as _at("sunday", 23) with data.inference.office_hours as both
	not office_hours.allow with input as _at("friday", 12) with data.inference.office_hours as both
	other := json.patch(_at("friday", 12), [{"op": "replace", "path": "/request/model", "value": "other"}])
	office_hours.allow with input as other with data.inference.office_hours as both
}

test_time_that_is_not_there if {
	untimed := json.remove(example.chat, ["time/hour"])
	not office_hours.allow with input as untimed with data.inference.office_hours as _day
}

test_malformed if {
	every wrong in [
		"all",
		[],
		{"*": {}},
		{"*": {"from": 6, "to": 25, "weekdays": []}},
		{"*": {"from": -1, "to": 5, "weekdays": []}},
		{"*": {"from": 1.5, "to": 5, "weekdays": []}},
		{"*": {"from": "6", "to": 22, "weekdays": []}},
		{"*": {"from": 6, "to": 22, "weekdays": "monday"}},
		{"*": {"from": 6, "to": 22, "weekdays": ["Monday"]}},
	] {
		office_hours.reasons == {"office_hours_malformed"} with input as example.chat
			with data.inference.office_hours as wrong
		not office_hours.allow with input as example.chat with data.inference.office_hours as wrong
	}
}

test_call_that_no_line_concerns if {
	office_hours.allow with input as _at("sunday", 3)
		with data.inference.office_hours as {"other": {"from": 6, "to": 22, "weekdays": _week}}
}
