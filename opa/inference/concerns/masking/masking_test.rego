package inference_test.masking

import data.inference.concerns.masking

_mask_all := [{"entity": "*", "action": "mask"}]

test_default if {
	masking.allow
	masking.reasons == set()
	masking.redact == {"request": _mask_all, "response": _mask_all}
}

test_lines_are_kept if {
	data_lines := {"request": {"EMAIL": "hash"}, "response": {"*": "drop"}}
	masking.redact == {
		"request": [{"entity": "*", "action": "mask"}, {"entity": "EMAIL", "action": "hash"}],
		"response": [{"entity": "*", "action": "drop"}],
	} with data.inference.masking as data_lines
}

test_fields_are_carried if {
	birth := {"path": "$..birth_date", "action": "mask", "keep": "date", "name": "BIRTH_DATE"}
	lists := {"request": {}, "response": {}, "fields": {"request": [birth]}}
	masking.allow with data.inference.masking as lists
	masking.redact == {
		"request": [{"entity": "*", "action": "mask"}, birth],
		"response": _mask_all,
	} with data.inference.masking as lists
}

test_malformed_fields if {
	every fields in [
		{"request": {"path": "$.a", "action": "mask"}},
		{"request": [{"path": "a", "action": "mask"}]},
		{"request": [{"path": 1, "action": "mask"}]},
		{"request": [{"path": "$.a", "action": "allow"}]},
		{"response": [{"path": "$.a"}]},
		{"response": [{"path": "$.a", "action": "mask", "why": "so"}]},
		{"response": ["$.a"]},
	] {
		lists := {"request": {}, "response": {}, "fields": fields}
		masking.reasons == {"masking_malformed"} with data.inference.masking as lists
		masking.redact == {"request": _mask_all, "response": _mask_all} with data.inference.masking as lists
	}
}

test_malformed if {
	every lines in [
		{},
		null,
		{"request": {}},
		{"request": {"*": "mask"}, "response": []},
		{"request": {"*": "maks"}, "response": {}},
		{"request": {"email": "mask"}, "response": {}},
	] {
		masking.reasons == {"masking_malformed"} with data.inference.masking as lines
		not masking.allow with data.inference.masking as lines
		masking.redact.response == _mask_all with data.inference.masking as lines
	}
}
