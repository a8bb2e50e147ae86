package inference_test.networks

import data.inference
import data.inference.concerns.networks
import data.inference_test.example

_inside := {
	"groups": {"analysts": ["192.0.2.0/24", "10.0.0.0/8"]},
	"tags": {"internal": ["10.0.0.0/24"]},
	"models": {"demo-restricted": ["2001:db8::/32"]},
}

_from(address) := example.with_value("/source/address", address)

test_off_by_default if {
	networks.allow with input as _from("203.0.113.9")
	networks.reasons == set() with input as _from("203.0.113.9")
}

test_inside if {
	networks.allow with input as example.chat with data.inference.networks as _inside
	networks.reasons == set() with input as example.chat with data.inference.networks as _inside
}

test_outside if {
	every address in ["203.0.113.9", "2001:db8::1", "", "elsewhere", "10.0.0.1:443"] {
		networks.reasons == {"network_not_permitted"} with input as _from(address)
			with data.inference.networks as _inside
		not networks.allow with input as _from(address) with data.inference.networks as _inside
	}
	decision := inference.decision with input as _from("203.0.113.9") with data.inference.networks as _inside
	"network_not_permitted" in decision.reasons
}

test_every_line_must_hold if {
	tagged := json.patch(_from("10.1.0.1"), [{"op": "replace", "path": "/connection/tags", "value": ["internal"]}])
	not networks.allow with input as tagged with data.inference.networks as _inside
	not networks.allow with input as example.restricted with data.inference.networks as _inside
}

test_version_six if {
	question := json.patch(
		example.restricted,
		[
			{"op": "replace", "path": "/source/address", "value": "2001:db8::1"},
			{"op": "replace", "path": "/identity/groups", "value": []},
		],
	)
	networks.allow with input as question with data.inference.networks as _inside
}

test_malformed if {
	every wrong in [
		{},
		"all",
		{"groups": {}, "tags": {}, "models": []},
		{"groups": {"analysts": "10.0.0.0/8"}, "tags": {}, "models": {}},
		{"groups": {}, "tags": {"a": ["10.0.0.0"]}, "models": {}},
		{"groups": {}, "tags": {}, "models": {"a": [7]}},
	] {
		networks.reasons == {"networks_malformed"} with input as example.chat with data.inference.networks as wrong
		not networks.allow with input as example.chat with data.inference.networks as wrong
	}
}
