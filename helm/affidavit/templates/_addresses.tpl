{{/* No credential in an address: values become objects that many may read. The gate knows the same names by itself
   (ext_proc/config/addresses.py), but only once there is a ConfigMap. */}}

{{- define "affidavit.validateAddresses" -}}
{{- include "affidavit.validateAddress" (dict "at" "config" "name" "" "value" .Values.config) -}}
{{- $test := .Values.test.clientCredentials -}}
{{- include "affidavit.validateAddress" (dict "at" "test.clientCredentials.tokenEndpoint" "name" "url" "value" $test.tokenEndpoint) -}}
{{- range $field, $_ := $test.form -}}
{{- if include "affidavit.secretName" (printf "?%s=" $field) -}}
{{- include "affidavit.refuse" (printf "test.clientCredentials.form.%s: it would stand in the pod, which many may read. Take it out: test.clientCredentials.existingSecret names a Secret with client_id and client_secret." $field) -}}
{{- end -}}
{{- end -}}
{{- range $part := list "gate" "envoy" "opa" -}}
{{- range (get $.Values $part).extraEnv -}}
{{- $value := default "" .value -}}
{{- if and (contains "://" $value) (or (regexMatch "^[^/]*//[^/?#]*:[^/?#]*@" $value) (include "affidavit.secretName" $value)) -}}
{{- include "affidavit.refuse" (printf "%s.extraEnv: %s: there is a credential in this address, and it would stand in the pod, which many may read. Put the address into a Secret: valueFrom: {secretKeyRef: {name: NAME, key: KEY}}." $part .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of everything below a value, what is an address by its name. */}}
{{- define "affidavit.validateAddress" -}}
{{- if kindIs "map" .value -}}
{{- range $name, $value := .value -}}
{{- include "affidavit.validateAddress" (dict "at" (printf "%s.%s" $.at $name) "name" $name "value" $value) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $number, $value := .value -}}
{{- include "affidavit.validateAddress" (dict "at" (printf "%s.%d" $.at $number) "name" $.name "value" $value) -}}
{{- end -}}
{{- else if and (kindIs "string" .value) (regexMatch "(url|uri|endpoint|address|issuer)$" .name) -}}
{{- with include "affidavit.secretName" .value -}}
{{- include "affidavit.refuse" (printf "%s: there is a credential behind the address (%s), and the configuration becomes a ConfigMap that many may read. Take it out; docs/configuration.md names, beside this field, the file that a credential belongs in (/etc/affidavit/secrets/NAME/KEY). Where there is none, let a proxy of yours add it." $.at .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The first parameter of an address whose name says that it is a credential, or whose name is escaped. */}}
{{- define "affidavit.secretName" -}}
{{- $names := "[a-z0-9._-]*(password|passwd|passphrase|secret|token|api[._-]*key|access[._-]*key([._-]*id)?|private[._-]*key|subscription[._-]*key|signature|credentials?|authorization)|pass|pwd|key|sig|auth|jwt|code" -}}
{{- regexFind (printf "(?i)[?#&;](%s|[^?#&;=]*%%[^?#&;=]*)=" $names) . | trimAll "?#&;=" -}}
{{- end -}}
