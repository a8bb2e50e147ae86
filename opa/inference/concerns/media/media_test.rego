package inference.concerns.media_test

import data.inference.concerns.media
import data.inference.example

_picture := json.patch(example.chat, [{"op": "replace", "path": "/request/parameters/media_count", "value": 1}])

test_text_only if media.deny == set() with input as example.chat

test_picture if media.deny == {"media_not_inspectable"} with input as _picture

test_picture_where_allowed if {
	media.deny == set() with input as _picture with data.settings.models as {"demo": {"media": true}}
}
