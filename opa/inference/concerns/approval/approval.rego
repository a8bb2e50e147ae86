# METADATA
# title: approval
# description: Which calls need a person's yes. Settings in data.settings.models, by model.
# schemas:
#   - input: schema.input
package inference.concerns.approval

# METADATA
# description: what is demanded, as the model's settings say
demand := demanded if {
	demanded := data.settings.models[input.request.model].approval
	demanded != null
}
