# METADATA
# title: At which hours
# description: |
#   Off while `data.inference.office_hours` is null. Has lines by model, `*` for every model without a line of its own
#   (and for calls without a model): `from` and `to` are hours of UTC, the last one not included, `weekdays` is a list. From 22 to 6 is a
#   night, and belongs to the day on which it is asked. A call that no line concerns may come at any time.
package inference.concerns.office_hours

_weekdays := {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

# METADATA
# description: it is a time at which this may be called
default allow := false

allow if data.inference.office_hours == null

allow if {
	_is_well_formed
	not _line
}

allow if {
	_is_well_formed
	_is_within(_line.from, _line.to)
	input.time.weekday in _line.weekdays
}

# METADATA
# description: codes of what is against the call
reasons contains "office_hours_malformed" if {
	not allow
	not _is_well_formed
}

reasons contains "outside_office_hours" if {
	not allow
	_is_well_formed
}

_line := data.inference.office_hours[_listed]

_listed := input.request.model if {
	data.inference.office_hours[input.request.model]
} else := "*"

_is_within(from, to) if {
	from <= to
	input.time.hour >= from
	input.time.hour < to
}

_is_within(from, to) if {
	from > to
	input.time.hour >= from
}

_is_within(from, to) if {
	from > to
	input.time.hour < to
}

_is_well_formed if {
	is_object(data.inference.office_hours)
	every line in data.inference.office_hours {
		_is_hour(line.from)
		_is_hour(line.to)
		is_array(line.weekdays)
		every day in line.weekdays {
			day in _weekdays
		}
	}
}

_is_hour(value) if {
	is_number(value)
	value >= 0
	value <= 24
	value == floor(value)
}
