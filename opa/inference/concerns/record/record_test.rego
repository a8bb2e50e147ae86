package inference_test.record

import data.inference.concerns.record

test_kept if {
	record.allow
	record.reasons == set()
	record.record == {"payloads": true}
}

test_not_kept if {
	record.record == {"payloads": false} with data.inference.record as {"payloads": false}
}

test_malformed if {
	every wrong in [{}, null, {"payloads": "no"}] {
		record.reasons == {"record_malformed"} with data.inference.record as wrong
		record.record == {"payloads": true} with data.inference.record as wrong
		not record.allow with data.inference.record as wrong
	}
}
