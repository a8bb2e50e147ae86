{{/* Contradictions that a schema cannot see, each refused with a sentence that names the values. */}}

{{- define "affidavit.refuse" -}}
{{- fail (printf "\n\n%s\n" .) -}}
{{- end -}}

{{- define "affidavit.validate" -}}
{{- include "affidavit.validateNames" . -}}
{{- include "affidavit.validateFiles" . -}}
{{- include "affidavit.validateAddresses" . -}}
{{- include "affidavit.validateListener" . -}}
{{- include "affidavit.validateForm" . -}}
{{- include "affidavit.validateReplicas" . -}}
{{- include "affidavit.validateSizes" . -}}
{{- include "affidavit.validateParts" . -}}
{{- include "affidavit.validateForeign" . -}}
{{- end -}}

{{- define "affidavit.validateNames" -}}
{{- $name := include "affidavit.fullname" . -}}
{{- if not (regexMatch "^[a-z][a-z0-9-]{0,39}$" $name) -}}
{{- include "affidavit.refuse" (printf "fullnameOverride: pods would be called %q (by the release and nameOverride), and logs after them: a letter is wanted, then letters, digits and dashes, 40 at most." $name) -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- include "affidavit.refuse" "serviceAccount.name: serviceAccount.create is false, so name one that is there." -}}
{{- end -}}
{{- end -}}

{{- define "affidavit.validateFiles" -}}
{{- if not .Values.keys.existingSecret -}}
{{- include "affidavit.refuse" "keys.existingSecret: name a Secret with the five keys: key-encryption-key, pepper, hash-key, receipt-key and log-key, head -c 32 /dev/urandom each (two commands in the chart's README.md, Before). The chart makes none, because what is lost with a release is lost for ever." -}}
{{- end -}}
{{- $bundle := .Values.policy.bundle -}}
{{- if and $bundle.existingConfigMap $bundle.existingSecret -}}
{{- include "affidavit.refuse" "policy.bundle: both existingConfigMap and existingSecret are named: which one decides? Name one." -}}
{{- end -}}
{{- if not (or $bundle.existingConfigMap $bundle.existingSecret) -}}
{{- include "affidavit.refuse" "policy.bundle.existingConfigMap: name the ConfigMap (or, as existingSecret, the Secret) that holds the bundle: `affidavit policy build`, then kubectl create configmap NAME --from-file=bundle.tar.gz." -}}
{{- end -}}
{{- range regexFindAll "\"/etc/affidavit/[^\"]*\"" (mustToJson .Values.config) -1 -}}
{{- if not (regexMatch "^\"/etc/affidavit/(keys|(secrets|configmaps)/[a-z0-9][a-z0-9.-]*)/[A-Za-z0-9._-]+\"$" .) -}}
{{- include "affidavit.refuse" (printf "config: the file %s would not be in the pod. Write /etc/affidavit/secrets/NAME/KEY or /etc/affidavit/configmaps/NAME/KEY: the chart mounts the Secret or ConfigMap NAME, and KEY is its entry." (trimAll "\"" .)) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "^[^/]*//[^/?#]*:[^/?#]*@|[?&](ssl)?password=" (dig "audit" "registry_url" "" .Values.config | default "") -}}
{{- include "affidavit.refuse" "config.audit.registry_url: there is a password in it, and the configuration becomes a ConfigMap that many may read. Take it out, and name its file: config.audit.registry_password_file: /etc/affidavit/secrets/NAME/KEY." -}}
{{- end -}}
{{- end -}}

{{- define "affidavit.validateListener" -}}
{{- $tls := .Values.listener.tls -}}
{{- if not (or $tls.existingSecret .Values.unsafe.plaintextListener) -}}
{{- include "affidavit.refuse" "listener.tls.existingSecret: callers' tokens need TLS. Name a Secret of the type kubernetes.io/tls; or, where a mesh encrypts, say unsafe.plaintextListener: true." -}}
{{- end -}}
{{- if and $tls.existingSecret .Values.unsafe.plaintextListener -}}
{{- include "affidavit.refuse" "unsafe.plaintextListener: contradicts listener.tls.existingSecret: callers would come in beside TLS. Which one?" -}}
{{- end -}}
{{- range $name, $number := include "affidavit.ownPorts" . | fromJson -}}
{{- if eq (int $.Values.listener.port) (int $number) -}}
{{- include "affidavit.refuse" (printf "listener.port: %d is taken in the same pod (%s). Choose another." (int $number) $name) -}}
{{- end -}}
{{- end -}}
{{- if and $tls.clientCa.existingSecret $tls.clientCa.existingConfigMap -}}
{{- include "affidavit.refuse" "listener.tls.clientCa: both existingSecret and existingConfigMap are named. Name one." -}}
{{- end -}}
{{- $ca := include "affidavit.hasClientCa" . -}}
{{- if and $ca (not $tls.existingSecret) -}}
{{- include "affidavit.refuse" "listener.tls.clientCa: there are no client certificates without listener.tls.existingSecret." -}}
{{- end -}}
{{- if and $tls.requireClientCertificate (not $ca) -}}
{{- include "affidavit.refuse" "listener.tls.requireClientCertificate: needs listener.tls.clientCa." -}}
{{- end -}}
{{- if and (kindIs "map" (dig "identity" "mtls" "" .Values.config)) (not $ca) -}}
{{- include "affidavit.refuse" "config.identity.mtls: needs listener.tls.clientCa, or nobody's certificate could be checked." -}}
{{- end -}}
{{- end -}}

{{- define "affidavit.validateForm" -}}
{{- $form := .Values.form -}}
{{- $server := .Values.server.container -}}
{{- if and (eq $form "sidecar") (not $server) -}}
{{- include "affidavit.refuse" "server.container: the form sidecar stands beside an inference server: say which (name, image, startupProbe)." -}}
{{- end -}}
{{- if and (ne $form "sidecar") $server -}}
{{- include "affidavit.refuse" (printf "server.container: only the form sidecar has an inference server in its pod, and form is %s." $form) -}}
{{- end -}}
{{- if $server -}}
{{- if not (and $server.name $server.image) -}}
{{- include "affidavit.refuse" "server.container: needs a name and an image." -}}
{{- end -}}
{{- end -}}
{{- if and (ne $form "egress") .Values.egress.lockdown.namespaces -}}
{{- include "affidavit.refuse" (printf "egress.lockdown.namespaces: only the form egress locks namespaces, and form is %s." $form) -}}
{{- end -}}
{{- if and .Values.egress.lockdown.namespaces (not .Values.networkPolicy.enabled) -}}
{{- include "affidavit.refuse" "egress.lockdown.namespaces: they are locked by NetworkPolicies, and networkPolicy.enabled is false: nothing would be locked." -}}
{{- end -}}
{{- if and (eq $form "egress") (ne .Values.service.type "ClusterIP") -}}
{{- include "affidavit.refuse" "service.type: the form egress is for callers inside the cluster: it must be ClusterIP." -}}
{{- end -}}
{{- if and .Values.service.loadBalancerSourceRanges (ne .Values.service.type "LoadBalancer") -}}
{{- include "affidavit.refuse" (printf "service.loadBalancerSourceRanges: says nothing for service.type %s: use networkPolicy.callers." .Values.service.type) -}}
{{- end -}}
{{- range dig "connections" list .Values.config -}}
{{- $url := dig "upstream" "url" "" . -}}
{{- $local := regexMatch "^https?://(127\\.[0-9.]+|localhost)(:[0-9]+)?$" $url -}}
{{- if and (eq $form "sidecar") (not $local) -}}
{{- include "affidavit.refuse" (printf "config.connections: %s: upstream.url is %s, but the form sidecar serves the inference server in its own pod: http://127.0.0.1:PORT." .name $url) -}}
{{- end -}}
{{- if $local -}}
{{- $port := default (ternary "443" "80" (hasPrefix "https" $url)) (include "affidavit.portOf" $url) | int -}}
{{- range $name, $number := set (include "affidavit.ownPorts" $ | fromJson) "the listener" $.Values.listener.port -}}
{{- if eq $port (int $number) -}}
{{- include "affidavit.refuse" (printf "config.connections: upstream.url is %s, but this port is the gateway's own (%s)." $url $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (ne $form "sidecar") $local -}}
{{- include "affidavit.refuse" (printf "config.connections: %s: upstream.url is %s, but in the form %s nothing listens in the pod." .name $url $form) -}}
{{- end -}}
{{- if and (eq $form "egress") (not (hasPrefix "https://" $url)) -}}
{{- include "affidavit.refuse" (printf "config.connections: %s: upstream.url is %s, but what leaves the cluster by the form egress must be https." .name $url) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "affidavit.validateReplicas" -}}
{{- $scaling := .Values.autoscaling -}}
{{- $several := or $scaling.enabled (gt (int .Values.replicas) 1) -}}
{{- $shared := dig "audit" "registry_url" "" .Values.config -}}
{{- if and $several (not $shared) -}}
{{- include "affidavit.refuse" (printf "config.audit.registry_url: %s, but without a database each pod keeps keys, tokens and approvals in a file (SQLite) of its own: an approval would not be found at the other pod, and an erasure would miss it. Name a PostgreSQL database, or say replicas: 1." (ternary "autoscaling.enabled is true" (printf "replicas is %d" (int .Values.replicas)) $scaling.enabled)) -}}
{{- end -}}
{{- if and $shared (not (hasPrefix "postgresql" $shared)) $several -}}
{{- include "affidavit.refuse" "config.audit.registry_url: several pods share a PostgreSQL database: postgresql://user@host/name." -}}
{{- end -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- include "affidavit.refuse" (printf "autoscaling.minReplicas: %d is more than maxReplicas, %d." (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and $scaling.enabled (not (dig "requests" "cpu" "" .Values.gate.resources)) -}}
{{- include "affidavit.refuse" "gate.resources.requests.cpu: autoscaling counts in percent of it, and it is not set." -}}
{{- end -}}
{{- end -}}

{{- define "affidavit.validateSizes" -}}
{{- $unsafe := .Values.unsafe.ephemeralEvidence -}}
{{- if and (not .Values.persistence.enabled) (not $unsafe) -}}
{{- include "affidavit.refuse" "persistence.enabled: false would keep evidence in an emptyDir, which is lost with the pod: what was answered and not shipped would have no record. If that is what you want, say unsafe.ephemeralEvidence: true." -}}
{{- end -}}
{{- if and .Values.persistence.enabled $unsafe -}}
{{- include "affidavit.refuse" "unsafe.ephemeralEvidence: contradicts persistence.enabled: true. Which one?" -}}
{{- end -}}
{{- $config := .Values.config -}}
{{- $most := dig "audit" "wal" "max_bytes" 4294967296 $config | int64 -}}
{{- $size := include "affidavit.bytes" .Values.persistence.size | int64 -}}
{{- if lt $size (add $most 1073741824) -}}
{{- include "affidavit.refuse" (printf "persistence.size: %s is too little: config.audit.wal.max_bytes is %d, and access logs need 1Gi beside it." .Values.persistence.size $most) -}}
{{- end -}}
{{- $hold := include "affidavit.holdSeconds" . | float64 -}}
{{- $wait := maxf (subf $hold 5.0) (divf $hold 2.0) -}}
{{- $largest := 0 -}}
{{- range dig "connections" list $config -}}
{{- if and .hold_seconds (gt (float64 .hold_seconds) (float64 $wait)) -}}
{{- include "affidavit.refuse" (printf "config.connections: %s: hold_seconds is %v, but it must be at most %v: Envoy gives up after config.listen.hold_seconds, %v." .name .hold_seconds $wait $hold) -}}
{{- end -}}
{{- $largest = max $largest (default 4194304 .request_limit_bytes | int64) (default 4194304 .response_limit_bytes | int64) -}}
{{- end -}}
{{- $segment := dig "audit" "wal" "segment_bytes" 16777216 $config | int64 -}}
{{- if lt $segment (add (mul 2 $largest) 262144) -}}
{{- include "affidavit.refuse" (printf "config.audit.wal.segment_bytes: %d is too little: the largest body is %d, and its record must fit (twice that, and 262144)." $segment (int64 $largest)) -}}
{{- end -}}
{{- $needed := include "affidavit.graceNeeded" . | int64 -}}
{{- with .Values.drain.terminationGracePeriodSeconds -}}
{{- if lt (int64 .) $needed -}}
{{- include "affidavit.refuse" (printf "drain.terminationGracePeriodSeconds: %d is less than %d, which the longest hold, drain.longestStreamSeconds and the end of the logs need: calls would be cut off." (int64 .) $needed) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "affidavit.validateParts" -}}
{{- $config := .Values.config -}}
{{- if .Values.console.enabled -}}
{{- if not $config.console -}}
{{- include "affidavit.refuse" "console.enabled: needs config.console (public_url, roles)." -}}
{{- end -}}
{{- $least := add (dig "audit" "wal" "segment_bytes" 16777216 $config | int64) (dig "audit" "wal" "emergency_bytes" 8388608 $config | int64) -}}
{{- if lt (include "affidavit.consoleRoom" . | int64) $least -}}
{{- include "affidavit.refuse" (printf "console.size: %s is too little: half of it is for evidence, and that must hold config.audit.wal.segment_bytes and emergency_bytes, %d together." .Values.console.size $least) -}}
{{- end -}}
{{- if not (dig "audit" "registry_url" "" $config) -}}
{{- include "affidavit.refuse" "console.enabled: needs config.audit.registry_url: the console is in a pod of its own and cannot read the file of another one." -}}
{{- end -}}
{{- end -}}
{{- if and $config.console (not .Values.console.enabled) -}}
{{- include "affidavit.refuse" "config.console: callers whose call waits would be sent to a console that does not run: say console.enabled: true." -}}
{{- end -}}
{{- if .Values.verify.enabled -}}
{{- if not .Values.verify.policy.existingConfigMap -}}
{{- include "affidavit.refuse" "verify.policy.existingConfigMap: whoever verifies needs the auditor's policy: what `affidavit auditor-policy` prints." -}}
{{- end -}}
{{- if eq .Values.verify.serviceAccountName (include "affidavit.serviceAccount" .) -}}
{{- include "affidavit.refuse" "verify.serviceAccountName: who verifies must not be who writes: another one than the gate's." -}}
{{- end -}}
{{- end -}}
{{- range $part, $file := dict "rules" "files/alerts.yaml" "dashboard" "files/dashboard.json" -}}
{{- if and (dig $part "enabled" false $.Values.monitoring) (not ($.Files.Get $file)) -}}
{{- include "affidavit.refuse" (printf "monitoring.%s.enabled: this chart was packed without %s." $part $file) -}}
{{- end -}}
{{- end -}}
{{- if .Values.test.enabled -}}
{{- if .Values.listener.tls.requireClientCertificate -}}
{{- include "affidavit.refuse" "test.enabled: the test has no client certificate, and listener.tls.requireClientCertificate is true." -}}
{{- end -}}
{{- $token := .Values.test.token.existingSecret -}}
{{- $client := .Values.test.clientCredentials -}}
{{- if and $token $client.tokenEndpoint -}}
{{- include "affidavit.refuse" "test.token.existingSecret and test.clientCredentials: name one of the two." -}}
{{- end -}}
{{- if not (or $token (and $client.tokenEndpoint $client.existingSecret)) -}}
{{- include "affidavit.refuse" "test.enabled: a governed call needs a caller: name test.token.existingSecret, or test.clientCredentials (tokenEndpoint and existingSecret)." -}}
{{- end -}}
{{- end -}}
{{- end -}}
