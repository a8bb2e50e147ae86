package system.authz_test

import data.system.authz

test_question if authz.allow with input as {"method": "POST", "path": ["v1", "data", "inference", "decision"]}

test_health if authz.allow with input as {"method": "GET", "path": ["health"]}

test_nothing_else if {
	not authz.allow with input as {"method": "PUT", "path": ["v1", "policies", "evil"]}
	not authz.allow with input as {"method": "GET", "path": ["v1", "data"]}
}
