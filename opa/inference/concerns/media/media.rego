# METADATA
# title: What cannot be scanned
# description: |
#   Images, sound and files carry text that the scan does not see, so they go only to models that have `"media": true`
#   in data.inference.models.
package inference.concerns.media

# METADATA
# description: the request carries nothing that cannot be scanned, or may
default allow := false

allow if input.request.parameters.media_count == 0

allow if {
	is_null(input.request.model)
	not "media_count" in object.keys(input.request.parameters)
}

allow if data.inference.models[input.request.model].media == true

# METADATA
# description: codes of what is against the call
reasons contains "media_not_inspectable" if not allow
