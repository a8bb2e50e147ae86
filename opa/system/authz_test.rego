package system.authz_test

import data.system.authz

test_question if authz.allow with input as {"method": "POST", "path": ["v1", "data", "inference", "decision"]}

test_health if authz.allow with input as {"method": "GET", "path": ["health"]}

test_nothing_else if {
	every asked in [
		{"method": "GET", "path": ["v1", "data", "inference", "decision"]},
		{"method": "GET", "path": ["v1", "data"]},
		{"method": "POST", "path": ["v1", "data"]},
		{"method": "POST", "path": ["v1", "data", "inference"]},
		{"method": "POST", "path": ["v1", "data", "inference", "decision", "allow"]},
		{"method": "POST", "path": ["v1", "query"]},
		{"method": "POST", "path": ["v1", "compile"]},
		{"method": "PUT", "path": ["v1", "policies", "evil"]},
		{"method": "PATCH", "path": ["v1", "data", "inference", "models"]},
		{"method": "GET", "path": ["v1", "config"]},
		{"method": "GET", "path": ["metrics"]},
		{},
	] {
		not authz.allow with input as asked
	}
}
