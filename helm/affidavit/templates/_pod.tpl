{{/* Parts that pods have in common. */}}

{{- define "affidavit.podSecurity" -}}
runAsNonRoot: true
{{- /* The pod's own container has these two from here only, and containerd refuses a group without a user. */}}
{{- with .Values.users.gate }}
runAsUser: {{ int . }}
{{- with $.Values.users.group }}
runAsGroup: {{ int . }}
{{- end }}
{{- end }}
{{- with .Values.users.group }}
fsGroup: {{ int . }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Pod Security `restricted`, of one container. */}}
{{- define "affidavit.security" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: {{ not .writable }}
runAsNonRoot: true
{{- with .user }}
runAsUser: {{ int . }}
{{- end }}
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* A container of somebody else's, with Pod Security put on it: a native sidecar, so that it ends after the gateway's. */}}
{{- define "affidavit.foreign" -}}
{{- $security := include "affidavit.security" (dict "writable" .writable) | fromYaml -}}
{{- $whole := deepCopy .container -}}
{{- $own := pick (default dict $whole.securityContext) "runAsUser" "runAsGroup" -}}
{{- $_ := set $whole "securityContext" (mustMergeOverwrite $own $security) -}}
{{- $_ := set $whole "restartPolicy" "Always" -}}
{{- toYaml $whole -}}
{{- end -}}

{{/* A volume's name is a label: names that do not fit are told by their digest. */}}
{{- define "affidavit.volumeName" -}}
{{- $name := index . 1 -}}
{{- printf "%s-%s" (index . 0) (ternary $name (sha256sum $name | trunc 16) (regexMatch "^[a-z0-9][a-z0-9-]{0,45}$" $name)) -}}
{{- end -}}

{{/* Names of Secrets or ConfigMaps in the paths of a configuration, as JSON. */}}
{{- define "affidavit.named" -}}
{{- $names := list -}}
{{- range regexFindAll (printf "/etc/affidavit/%s/[a-z0-9][a-z0-9.-]*/" .kind) .text -1 -}}
{{- $names = append $names (trimSuffix "/" . | base) -}}
{{- end -}}
{{- uniq $names | sortAlpha | toJson -}}
{{- end -}}

{{/* Mounts of the files that the configuration in `text` names. */}}
{{- define "affidavit.namedMounts" -}}
{{- range $kind := list "secrets" "configmaps" -}}
{{- range include "affidavit.named" (dict "kind" $kind "text" $.text) | fromJsonArray }}
- {name: {{ include "affidavit.volumeName" (list (trimSuffix "s" $kind) .) }}, mountPath: /etc/affidavit/{{ $kind }}/{{ . }}, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{- define "affidavit.namedVolumes" -}}
{{- range include "affidavit.named" (dict "kind" "secrets" "text" .text) | fromJsonArray }}
- name: {{ include "affidavit.volumeName" (list "secret" .) }}
  secret: {secretName: {{ quote . }}, defaultMode: 0440}
{{- end }}
{{- range include "affidavit.named" (dict "kind" "configmaps" "text" .text) | fromJsonArray }}
- name: {{ include "affidavit.volumeName" (list "configmap" .) }}
  configMap: {name: {{ quote . }}, defaultMode: 0444}
{{- end }}
{{- end -}}

{{/* OPA and the gate must have the same file. What OPA loaded itself stays as it is for a pod's life (a mount of one file
   does not follow its ConfigMap); what the gate gives OPA may change under it. */}}
{{- define "affidavit.bundleMount" -}}
{{- if dig "policy" "distribution" dict .root.Values.config -}}
- {name: bundle, mountPath: /etc/affidavit/bundle, readOnly: true}
{{- else -}}
- {name: bundle, mountPath: /etc/affidavit/bundle/bundle.tar.gz, subPath: bundle.tar.gz, readOnly: true}
{{- end -}}
{{- end -}}

{{/* What the gate and the console read. */}}
{{- define "affidavit.gateMounts" -}}
- {name: config, mountPath: /etc/affidavit/config, readOnly: true}
- {name: pod, mountPath: /etc/affidavit/pod, readOnly: true}
- {name: keys, mountPath: /etc/affidavit/keys, readOnly: true}
{{ include "affidavit.bundleMount" . }}
- {name: run, mountPath: /run/affidavit}
- {name: state, mountPath: /var/lib/affidavit}
- {name: tmp, mountPath: /tmp}
{{- include "affidavit.namedMounts" (dict "text" .text) }}
{{- with .root.Values.gate.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "affidavit.gateVolumes" -}}
- name: config
  configMap: {name: {{ quote .config }}, defaultMode: 0444}
- name: pod
  downwardAPI:
    defaultMode: 0444
    items: [{path: name, fieldRef: {fieldPath: metadata.name}}]
- name: keys
  secret: {secretName: {{ quote .root.Values.keys.existingSecret }}, defaultMode: 0440}
- name: bundle
  {{- with .root.Values.policy.bundle }}
  {{- if .existingConfigMap }}
  configMap: {name: {{ quote .existingConfigMap }}, items: [{key: {{ quote .key }}, path: bundle.tar.gz}], defaultMode: 0444}
  {{- else }}
  secret: {secretName: {{ quote .existingSecret }}, items: [{key: {{ quote .key }}, path: bundle.tar.gz}], defaultMode: 0440}
  {{- end }}
  {{- end }}
- name: run
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- include "affidavit.namedVolumes" (dict "text" .text) }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where pods may run. */}}
{{- define "affidavit.scheduling" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ quote . }}
  {{- end }}
{{- end }}
{{- with .root.Values.scheduling }}
{{- if $.spread }}
{{- with .spreadOver }}
topologySpreadConstraints:
  {{- range . }}
  - topologyKey: {{ quote . }}
    maxSkew: 1
    whenUnsatisfiable: {{ $.root.Values.scheduling.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "affidavit.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ quote . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The authorities that Envoy verifies services with, as JSON: of each Secret or ConfigMap the entries that are named.
   Beside one of them there may be a key that is the gate's. */}}
{{- define "affidavit.authorities" -}}
{{- $found := dict -}}
{{- range .connections -}}
{{- $file := default "" .upstream.ca_file -}}
{{- if regexMatch "^/etc/affidavit/(secrets|configmaps)/[a-z0-9][a-z0-9.-]*/[A-Za-z0-9._-]+$" $file -}}
{{- $_ := set $found (dir $file) (append (get $found (dir $file) | default list) (base $file) | uniq | sortAlpha) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- define "affidavit.authorityVolume" -}}
{{- include "affidavit.volumeName" (list (printf "ca-%s" (dir . | base | trimSuffix "s")) (base .)) -}}
{{- end -}}

{{- define "affidavit.authorityMounts" -}}
{{- range $place, $_ := include "affidavit.authorities" . | fromJson }}
- {name: {{ include "affidavit.authorityVolume" $place }}, mountPath: {{ $place }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "affidavit.authorityVolumes" -}}
{{- range $place, $entries := include "affidavit.authorities" . | fromJson }}
- name: {{ include "affidavit.authorityVolume" $place }}
  {{- if hasPrefix "/etc/affidavit/secrets/" $place }}
  secret:
    secretName: {{ base $place | quote }}
    defaultMode: 0440
  {{- else }}
  configMap:
    name: {{ base $place | quote }}
    defaultMode: 0444
  {{- end }}
    items:
    {{- range $entries }}
    - {key: {{ quote . }}, path: {{ quote . }}}
    {{- end }}
{{- end }}
{{- end -}}
