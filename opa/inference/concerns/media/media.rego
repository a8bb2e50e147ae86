# METADATA
# title: media
# description: Images, sound and files cannot be scanned, so they go only to models whose settings say so.
# schemas:
#   - input: schema.input
package inference.concerns.media

# METADATA
# description: the request carries what nobody can look into
deny contains "media_not_inspectable" if {
	input.request.parameters.media_count > 0
	not _may_have_media
}

_may_have_media if data.settings.models[input.request.model].media == true
