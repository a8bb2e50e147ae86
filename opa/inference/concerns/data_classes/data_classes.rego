# METADATA
# title: Which kinds of data may go where
# description: |
#   Off while `data.inference.data_classes` is null. `classes` sorts entities into classes: {"payment": ["IBAN"]}; what
#   is in none is `unclassified`. A class that has a line in `to` may go only to connections with one of the line's
#   `tags`, or to one of its `models`; a class without a line goes anywhere. What counts is what the scan found, also
#   where it is masked: a text around a mask still tells.
package inference.concerns.data_classes

# METADATA
# description: each class of data that was found may go there
default allow := false

allow if data.inference.data_classes == null

allow if {
	_is_well_formed
	is_object(input.findings)
	count(_misplaced) == 0
}

# METADATA
# description: codes of what is against the call
reasons contains "data_classes_malformed" if {
	not allow
	not _is_well_formed
}

reasons contains "data_not_for_this_service" if {
	not allow
	_is_well_formed
	count(_misplaced) > 0
}

_misplaced contains class if {
	some class, line in data.inference.data_classes.to
	class in _found
	not _may_go(line)
}

_may_go(line) if {
	some tag in input.connection.tags
	tag in line.tags
}

_may_go(line) if input.request.model in line.models

_found contains class if {
	some class, entities in data.inference.data_classes.classes
	some entity, _ in input.findings
	entity in entities
}

_found contains "unclassified" if {
	some entity, _ in input.findings
	not _is_classified(entity)
}

_is_classified(entity) if {
	some entities in data.inference.data_classes.classes
	entity in entities
}

_is_well_formed if {
	is_object(data.inference.data_classes.classes)
	is_object(data.inference.data_classes.to)
	every entities in data.inference.data_classes.classes {
		_are_texts(entities)
	}
	every class, line in data.inference.data_classes.to {
		_is_class(class)
		_are_texts(line.tags)
		_are_texts(line.models)
	}
}

_is_class(class) if data.inference.data_classes.classes[class]

_is_class("unclassified")

_are_texts(values) if {
	is_array(values)
	every value in values {
		is_string(value)
	}
}
