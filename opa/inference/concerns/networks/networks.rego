# METADATA
# title: From which networks
# description: |
#   Off while `data.inference.networks` is null. Names networks (CIDR) by group of the caller (`groups`), by tag of the
#   connection (`tags`) and by model (`models`). Every line that concerns the call must hold: its address is in one of the line's networks.
#   Calls that no line concerns may come from anywhere.
package inference.concerns.networks

# METADATA
# description: the call comes from where it may come from
default allow := false

allow if data.inference.networks == null

allow if {
	_is_well_formed
	every networks in _lines {
		_is_inside(networks)
	}
}

# METADATA
# description: codes of what is against the call
reasons contains "networks_malformed" if {
	not allow
	not _is_well_formed
}

reasons contains "network_not_permitted" if {
	not allow
	_is_well_formed
	some networks in _lines
	not _is_inside(networks)
}

_lines contains data.inference.networks.groups[group] if some group in input.identity.groups

_lines contains data.inference.networks.tags[tag] if some tag in input.connection.tags

_lines contains data.inference.networks.models[input.request.model]

# An address that is none is asked about before it is compared: else the comparison is an error, and a 503 to the caller.
_is_inside(networks) if {
	net.cidr_is_valid(concat("", [input.source.address, "/32"]))
	some network in networks
	net.cidr_contains(network, input.source.address)
}

_is_well_formed if {
	every kind in ["groups", "models", "tags"] {
		is_object(data.inference.networks[kind])
		every networks in data.inference.networks[kind] {
			_are_networks(networks)
		}
	}
}

_are_networks(networks) if {
	is_array(networks)
	every network in networks {
		is_string(network)
		net.cidr_is_valid(network)
	}
}
