# METADATA
# title: models
# description: Which groups may use which model, and for what. Settings in data.settings.models.
# schemas:
#   - input: schema.input
package inference.concerns.models

# METADATA
# description: a group of the caller is listed for the model and the operation
permit contains "group_may_use_model" if {
	model := data.settings.models[input.request.model]
	input.request.operation in model.operations
	some group in input.identity.groups
	group in model.groups
}

# METADATA
# description: a group of the caller may see which models there are
permit contains "group_may_list_models" if {
	input.request.operation == "models"
	some group in input.identity.groups
	group in data.settings.listing_groups
}
