{{/* Names, labels and images. */}}

{{- define "affidavit.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}{{- .Release.Name -}}{{- else -}}{{- printf "%s-%s" .Release.Name $name -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "affidavit.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "affidavit.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels by which objects find their pods: of one part, and never changed. */}}
{{- define "affidavit.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ quote .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "affidavit.labels" -}}
{{ include "affidavit.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: affidavit
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What stands under `metadata`. `more`: annotations of this object. */}}
{{- define "affidavit.metadata" -}}
name: {{ quote .name }}
namespace: {{ default .root.Release.Namespace .namespace | quote }}
labels:
  {{- include "affidavit.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with mustMerge (deepCopy (default (dict) .more)) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "affidavit.image" -}}
{{- $image := .part.image -}}
{{- $registry := .root.Values.image.registry -}}
{{- if $registry -}}{{- $registry = printf "%s/" (trimSuffix "/" $registry) -}}{{- end -}}
{{- $name := printf "%s%s:%s" $registry $image.repository (default .root.Chart.AppVersion $image.tag) -}}
{{- if $image.digest -}}{{- printf "%s@%s" $name $image.digest -}}{{- else -}}{{- $name -}}{{- end -}}
{{- end -}}

{{/* What weakens this installation, by its names. */}}
{{- define "affidavit.unsafe" -}}
{{- $found := list -}}
{{- range $key, $is := .Values.unsafe -}}{{- if $is -}}{{- $found = append $found $key -}}{{- end -}}{{- end -}}
{{- if not .Values.networkPolicy.enabled -}}{{- $found = append $found "noNetworkPolicy" -}}{{- end -}}
{{- join "," $found -}}
{{- end -}}

{{/* Bytes of a quantity such as 8Gi. */}}
{{- define "affidavit.bytes" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $units := dict "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mul $number (get $units (regexFind "[MGT]i$" .) | int64) -}}
{{- end -}}
