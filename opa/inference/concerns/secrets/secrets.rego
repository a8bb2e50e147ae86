# METADATA
# title: secrets
# description: A credential in a prompt is refused, not masked, because its owner must learn that it got out.
# schemas:
#   - input: schema.input
package inference.concerns.secrets

# METADATA
# description: the scan found a credential
deny contains "secret_in_prompt" if {
	some entity, count in input.findings
	_is_secret(entity)
	count > 0
}

_is_secret(entity) if startswith(entity, "SECRET_")

_is_secret("URL_CREDENTIALS")
