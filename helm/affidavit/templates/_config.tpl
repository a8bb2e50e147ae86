{{/* The gateway's configuration: what `config` says, and what the chart decides. As JSON, which is YAML: numbers stay whole. */}}

{{- define "affidavit.config" -}}
{{- $all := .Values -}}
{{- $plain := ternary "0.0.0.0" "127.0.0.1" $all.unsafe.plaintextListener -}}
{{- $listen := dict "http" (printf "%s:%d" $plain (include "affidavit.plainPort" . | int)) "admin" "unix:/run/envoy/admin.sock" -}}
{{- with $all.listener.tls.existingSecret -}}
{{- $tls := dict "address" (printf "0.0.0.0:%d" (int $all.listener.port)) "certificate_file" "/etc/affidavit/tls/tls.crt" "key_file" "/etc/affidavit/tls/tls.key" -}}
{{- if include "affidavit.hasClientCa" $ -}}
{{- $_ := set $tls "client_ca_file" "/etc/affidavit/client-ca/ca.crt" -}}
{{- $_ := set $tls "require_client_certificate" $all.listener.tls.requireClientCertificate -}}
{{- end -}}
{{- $_ := set $listen "tls" $tls -}}
{{- end -}}
{{- $keys := "/etc/affidavit/keys" -}}
{{- $audit := dict
  "replica_file" "/etc/affidavit/pod/name"
  "key_encryption_key_file" (printf "%s/key-encryption-key" $keys)
  "pepper_file" (printf "%s/pepper" $keys)
  "receipt_key_file" (printf "%s/receipt-key" $keys) -}}
{{- if not (dig "audit" "signing" dict $all.config) -}}
{{- $_ := set $audit "signing" (dict "file" (printf "%s/log-key" $keys)) -}}
{{- end -}}
{{- $owned := dict
  "run_dir" "/run/affidavit"
  "state_dir" "/var/lib/affidavit"
  "metrics" "0.0.0.0:9464"
  "listen" $listen
  "policy" (dict "opa_socket" "/run/opa/opa.sock" "bundle_file" "/etc/affidavit/bundle/bundle.tar.gz")
  "redaction" (dict "hash_key_file" (printf "%s/hash-key" $keys))
  "audit" $audit -}}
{{- $whole := mustMergeOverwrite (deepCopy $all.config) $owned -}}
{{- if $whole.console -}}
{{- $_ := set $whole.console "listen" "0.0.0.0:8090" -}}
{{- $_ := set $whole.console "metrics" "0.0.0.0:9467" -}}
{{- end -}}
{{- mustToPrettyJson $whole -}}
{{- end -}}

{{/* Half of the console's claim, the other is for its index: with the gateway's room, an alert of a disk that is too small
   for it would fire for ever, and one of a disk that is half full never. */}}
{{- define "affidavit.consoleRoom" -}}
{{- $most := dig "audit" "wal" "max_bytes" 4294967296 .Values.config | int64 -}}
{{- min $most (div (include "affidavit.bytes" .Values.console.size | int64) 2) -}}
{{- end -}}

{{/* The console's pod has no OPA to give bundles to, and a smaller disk. */}}
{{- define "affidavit.consoleConfig" -}}
{{- $whole := include "affidavit.config" . | mustFromJson -}}
{{- $wal := get $whole.audit "wal" | default dict -}}
{{- $_ := set $wal "max_bytes" (include "affidavit.consoleRoom" . | int64) -}}
{{- $_ := set $whole.audit "wal" $wal -}}
{{- $_ := unset $whole.policy "distribution" -}}
{{- $_ := unset $whole.policy "shadow" -}}
{{- mustToPrettyJson $whole -}}
{{- end -}}

{{- define "affidavit.hasClientCa" -}}
{{- if or .Values.listener.tls.clientCa.existingSecret .Values.listener.tls.clientCa.existingConfigMap -}}yes{{- end -}}
{{- end -}}

{{/* The plain listener has the port to itself where there is no TLS. */}}
{{- define "affidavit.plainPort" -}}
{{- if and .Values.unsafe.plaintextListener (not .Values.listener.tls.existingSecret) -}}{{- .Values.listener.port -}}{{- else -}}8080{{- end -}}
{{- end -}}

{{/* The longest that Envoy waits in one phase; and the longest that a call may be held for people. */}}
{{- define "affidavit.holdSeconds" -}}
{{- dig "listen" "hold_seconds" 60 .Values.config -}}
{{- end -}}

{{/* What a pod needs to leave in order: the settling, the longest hold, the longest stream, the gate's end, the last shipping. */}}
{{- define "affidavit.graceNeeded" -}}
{{- $gate := dig "drain_seconds" 20 .Values.config -}}
{{- add .Values.drain.settleSeconds (include "affidavit.holdSeconds" . | float64 | ceil | int64) .Values.drain.longestStreamSeconds (float64 $gate | ceil | int64) 45 -}}
{{- end -}}

{{/* The port that a URL names; empty: none. */}}
{{- define "affidavit.portOf" -}}
{{- $rest := regexReplaceAll "^[a-z0-9+]+://" . "" -}}
{{- $port := regexFind "^[^/?#]*" $rest | regexFind ":[0-9]+$" | trimPrefix ":" -}}
{{- if and $port (or (gt (len $port) 5) (gt (int $port) 65535) (lt (int $port) 1)) -}}
{{- include "affidavit.refuse" (printf "config: the url %s names the port %s, but ports go from 1 to 65535." . $port) -}}
{{- end -}}
{{- $port -}}
{{- end -}}

{{/* Ports of the services that the configuration names, as JSON. */}}
{{- define "affidavit.servicePorts" -}}
{{- $config := .Values.config -}}
{{- $urls := list (dig "audit" "s3" "endpoint" "" $config | default "https://s3") -}}
{{- range dig "connections" list $config -}}{{- $urls = append $urls (dig "upstream" "url" "" .) -}}{{- end -}}
{{- range dig "identity" "issuers" list $config -}}
{{- $urls = append $urls .issuer -}}{{- $urls = append $urls (default "" .jwks_uri) -}}
{{- end -}}
{{- range dig "audit" "time_stamp_authorities" list $config -}}{{- $urls = append $urls .url -}}{{- end -}}
{{- range dig "audit" "witnesses" list $config -}}{{- $urls = append $urls .url -}}{{- end -}}
{{- $signing := dig "audit" "signing" dict $config -}}
{{- if $signing.aws_kms -}}{{- $urls = append $urls (default "https://kms" $signing.aws_kms.endpoint) -}}{{- end -}}
{{- if $signing.openbao -}}{{- $urls = append $urls $signing.openbao.address -}}{{- end -}}
{{- $urls = append $urls (dig "audit" "registry_url" "" $config) -}}
{{- $bundles := (dig "policy" "distribution" dict $config | default dict).s3 -}}
{{- if $bundles -}}{{- $urls = append $urls (default "https://s3" $bundles.endpoint) -}}{{- end -}}
{{- $traces := (dig "telemetry" dict $config | default dict).otlp | default dict -}}
{{- $urls = append $urls (default "" $traces.endpoint) -}}
{{- include "affidavit.portsOf" (dict "urls" $urls "ports" .Values.networkPolicy.extraPorts) -}}
{{- end -}}

{{/* Ports of services by their URLs, beside those that are named: as JSON. What is in the pod itself needs none. */}}
{{- define "affidavit.portsOf" -}}
{{- $ports := .ports -}}
{{- range compact .urls -}}
{{- if not (regexMatch "^https?://(127\\.[0-9.]+|localhost)(:|/|$)" .) -}}
{{- $usual := ternary "80" (ternary "5432" "443" (hasPrefix "postgres" .)) (hasPrefix "http:" .) -}}
{{- $ports = append $ports (default $usual (include "affidavit.portOf" .)) -}}
{{- end -}}
{{- end -}}
{{- $numbers := list -}}
{{- range $ports -}}{{- $numbers = append $numbers (int .) -}}{{- end -}}
{{- uniq $numbers | toJson -}}
{{- end -}}

{{/* Ports where the console sends word to approvers. */}}
{{- define "affidavit.channelPorts" -}}
{{- $numbers := list -}}
{{- range dig "approvals" "channels" list .Values.config -}}
{{- if eq .kind "email" -}}{{- $numbers = append $numbers (default 587 .port | int) -}}
{{- else -}}
{{- $numbers = append $numbers (default "443" (include "affidavit.portOf" (default (default "https://slack.com" .api_url) .url)) | int) -}}
{{- end -}}
{{- end -}}
{{- uniq $numbers | toJson -}}
{{- end -}}

{{/* Rules of what may be reached: names, and the services on their ports. */}}
{{- define "affidavit.egress" -}}
- to:
    {{- toYaml .all.dns | nindent 4 }}
  ports:
  - {protocol: UDP, port: 53}
  - {protocol: TCP, port: 53}
- to:
    {{- toYaml .all.services | nindent 4 }}
  ports:
  {{- range .ports }}
  - {protocol: TCP, port: {{ int . }}}
  {{- end }}
{{- with .all.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}
