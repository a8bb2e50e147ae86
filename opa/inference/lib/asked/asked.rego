# METADATA
# title: What a caller asks for, whatever the protocol calls it
# description: |
#   Each protocol has its own name for the longest answer, and a provider takes the one it knows: all of them count.
#   A parameter that is null is left out.
package inference.lib.asked

# METADATA
# description: the names for the longest answer, in tokens
token_parameters := ["max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "n_predict"]

# METADATA
# description: how long an answer may be, by parameter; of whatever type
output_tokens := {name: value |
	some name in token_parameters
	value := input.request.parameters[name]
	not is_null(value)
}

# METADATA
# description: how many answers are asked for, by parameter; of whatever type
answers := {name: value |
	some name in ["n", "best_of"]
	value := input.request.parameters[name]
	not is_null(value)
}
