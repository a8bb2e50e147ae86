# METADATA
# title: What is kept beyond the record
# description: whether the bodies are kept (data.inference.record.payloads), encrypted; if in doubt they are
package inference.concerns.record

# METADATA
# description: the data are well formed
default allow := false

allow if is_boolean(data.inference.record.payloads)

# METADATA
# description: codes of what is against the call
reasons contains "record_malformed" if not allow

# METADATA
# description: what is kept
record := {"payloads": data.inference.record.payloads} if {
	allow
} else := {"payloads": true}
