package inference.concerns.secrets_test

import data.inference.concerns.secrets

test_secret if secrets.deny == {"secret_in_prompt"} with input as {"findings": {"SECRET_GITHUB": 1}}

test_url_credentials if secrets.deny == {"secret_in_prompt"} with input as {"findings": {"URL_CREDENTIALS": 2}}

test_personal_data_is_no_secret if secrets.deny == set() with input as {"findings": {"EMAIL": 3}}
