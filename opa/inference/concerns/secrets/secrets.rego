# METADATA
# title: No secrets in prompts
# description: keys, tokens and passwords that the scan finds do not leave the house, not even masked
package inference.concerns.secrets

# METADATA
# description: the scan found no secret
default allow := false

allow if {
	is_object(input.findings)
	count(_secrets) == 0
}

# METADATA
# description: codes of what is against the call
reasons contains "secret_in_prompt" if count(_secrets) > 0

_secrets contains entity if {
	some entity, _ in input.findings
	startswith(entity, "SECRET_")
}

_secrets contains "URL_CREDENTIALS" if some "URL_CREDENTIALS", _ in input.findings
