package inference_test.secrets

import data.inference.concerns.secrets

test_secret if {
	question := {"findings": {"EMAIL": 1, "SECRET_GITHUB": 1}}
	secrets.reasons == {"secret_in_prompt"} with input as question
	not secrets.allow with input as question
}

test_url_credentials if {
	secrets.reasons == {"secret_in_prompt"} with input as {"findings": {"URL_CREDENTIALS": 2}}
}

test_personal_data_is_no_secret if {
	secrets.allow with input as {"findings": {"EMAIL": 3}}
	secrets.reasons == set() with input as {"findings": {"EMAIL": 3}}
}

test_nothing_found if secrets.allow with input as {"findings": {}}

test_not_scanned if {
	not secrets.allow with input as {}
	not secrets.allow with input as {"findings": null}
	not secrets.allow with input as {"findings": []}
}
