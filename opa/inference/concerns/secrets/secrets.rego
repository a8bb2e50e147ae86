# METADATA
# title: No secrets in prompts
# description: keys, tokens and passwords that the scan finds do not leave the house, not even masked
package inference.concerns.secrets

# METADATA
# description: the scan found no secret
default allow := false

allow if {
	is_object(input.findings)
	every entity, _ in input.findings {
		not _is_secret(entity)
	}
}

# METADATA
# description: codes of what is against the call
reasons contains "secret_in_prompt" if {
	some entity, _ in input.findings
	_is_secret(entity)
}

_is_secret(entity) if startswith(entity, "SECRET_")

_is_secret("URL_CREDENTIALS")
