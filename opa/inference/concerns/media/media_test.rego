package inference_test.media

import data.inference.concerns.media
import data.inference_test.example

_picture := example.with_value("/request/parameters/media_count", 1)

test_text_only if {
	media.allow with input as example.chat
	media.reasons == set() with input as example.chat
}

test_listing if media.allow with input as example.listing

test_picture if media.reasons == {"media_not_inspectable"} with input as _picture

test_not_counted if {
	not media.allow with input as example.with_value("/request/parameters", {})
}

test_picture_where_allowed if {
	media.allow with input as _picture with data.inference.models as {"demo": {"media": true}}
}
