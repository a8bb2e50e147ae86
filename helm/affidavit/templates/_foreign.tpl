{{/* What somebody else brings into the pods: containers, volumes, mounts, labels. None of it may take the place of the
   chart's own. */}}

{{/* Ports of the gateway's pod, by what listens there, as JSON. */}}
{{- define "affidavit.ownPorts" -}}
{{- $ports := dict "gate-metrics" 9464 "the gate's bundles" 9465 "drain" 9466 "opa-metrics" 8282 -}}
{{- if .Values.listener.tls.existingSecret -}}{{- $_ := set $ports "Envoy on loopback" 8080 -}}{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{- define "affidavit.validateForeign" -}}
{{- include "affidavit.validateKeys" . -}}
{{- include "affidavit.validateVolumes" . -}}
{{- range $part := list "gate" "envoy" "opa" -}}
{{- include "affidavit.validateEnv" (dict "root" $ "where" (printf "%s.extraEnv" $part) "variables" (get $.Values $part).extraEnv) -}}
{{- range (get $.Values $part).extraVolumeMounts -}}
{{- include "affidavit.validateMount" (dict "root" $ "where" (printf "%s.extraVolumeMounts" $part) "mount" .) -}}
{{- end -}}
{{- end -}}
{{- range .Values.opa.extraEnv -}}
{{- if hasPrefix "OPA_" (upper .name) -}}
{{- include "affidavit.refuse" (printf "opa.extraEnv: %s: what begins with OPA_ is a switch of OPA's, and some let it log or send whole questions." .name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.server.container -}}
{{- include "affidavit.validateContainer" (dict "root" $ "where" "server.container" "container" .) -}}
{{- end -}}
{{- range .Values.extraContainers -}}
{{- include "affidavit.validateContainer" (dict "root" $ "where" "extraContainers" "container" .) -}}
{{- end -}}
{{- end -}}

{{/* The same key twice in YAML: the last one counts, and that is not the chart's. */}}
{{- define "affidavit.validateKeys" -}}
{{- $all := .Values -}}
{{- $given := dict
  "commonLabels" $all.commonLabels "podLabels" $all.podLabels
  "commonAnnotations" $all.commonAnnotations "podAnnotations" $all.podAnnotations
  "service.annotations" $all.service.annotations "serviceAccount.annotations" $all.serviceAccount.annotations
  "persistence.annotations" $all.persistence.annotations
  "monitoring.serviceMonitor.labels" $all.monitoring.serviceMonitor.labels
  "monitoring.rules.labels" $all.monitoring.rules.labels "monitoring.dashboard.labels" $all.monitoring.dashboard.labels -}}
{{- range $where, $keys := $given -}}
{{- range $key, $_ := $keys -}}
{{- if regexMatch "^((affidavit[.]io|helm[.]sh|checksum|app[.]kubernetes[.]io)/|eks[.]amazonaws[.]com/skip-containers$|kubectl[.]kubernetes[.]io/default-container$)" $key -}}
{{- include "affidavit.refuse" (printf "%s: %s is the chart's own to set: it says what this object is. Choose another name." $where $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "affidavit.validateVolumes" -}}
{{- $allowed := list "configMap" "csi" "downwardAPI" "emptyDir" "ephemeral" "persistentVolumeClaim" "projected" "secret" -}}
{{- $keys := .Values.keys.existingSecret -}}
{{- range $volume := .Values.extraVolumes -}}
{{- range $kind, $_ := omit $volume "name" -}}
{{- if not (has $kind $allowed) -}}
{{- include "affidavit.refuse" (printf "extraVolumes: %s: Pod Security restricted has no volumes of the kind %s, only %s." $volume.name $kind (join ", " $allowed)) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "^(config|pod|keys|bundle|run|opa|admin|tmp|state|tls|client-ca|(secret|configmap|ca)-.*)$" $volume.name -}}
{{- include "affidavit.refuse" (printf "extraVolumes: %s is a volume of the chart's own: choose another name, one that does not begin with secret-, configmap- or ca-." $volume.name) -}}
{{- end -}}
{{- $secrets := list (default dict $volume.secret).secretName -}}
{{- range (default dict $volume.projected).sources -}}{{- $secrets = append $secrets (default dict .secret).name -}}{{- end -}}
{{- $claim := (default dict $volume.persistentVolumeClaim).claimName | default "" -}}
{{- if regexMatch (printf "^state-%s(-console)?-[0-9]+$" (include "affidavit.fullname" $)) $claim -}}
{{- include "affidavit.refuse" (printf "extraVolumes: %s: the claim %s holds evidence of a pod's, which writes to it alone." $volume.name $claim) -}}
{{- end -}}
{{- if and $keys (has $keys $secrets) -}}
{{- include "affidavit.refuse" (printf "extraVolumes: %s: the Secret %s holds the keys of the evidence (keys.existingSecret): the gate alone has them." $volume.name $keys) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A mount of a volume of `extraVolumes`, where nothing of the chart's is. */}}
{{- define "affidavit.validateMount" -}}
{{- $name := .mount.name -}}
{{- $names := list -}}
{{- range .root.Values.extraVolumes -}}{{- $names = append $names .name -}}{{- end -}}
{{- if not (has $name $names) -}}
{{- include "affidavit.refuse" (printf "%s: %s is not one of extraVolumes, and only those may be mounted more." .where $name) -}}
{{- end -}}
{{- $path := printf "%s/" (clean .mount.mountPath | trimSuffix "/") | replace "/var/run/" "/run/" -}}
{{- range $own := list "/run/affidavit/" "/run/opa/" "/run/envoy/" "/var/lib/affidavit/" "/etc/affidavit/" -}}
{{- if or (hasPrefix $own $path) (hasPrefix $path $own)  -}}
{{- include "affidavit.refuse" (printf "%s: %s: a mount at %s would lie over %s, where the gateway's own files are." $.where $name $.mount.mountPath (trimSuffix "/" $own)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The keys are files of the gate's: in a variable somebody else would have them. */}}
{{- define "affidavit.validateEnv" -}}
{{- $keys := .root.Values.keys.existingSecret -}}
{{- range .variables -}}
{{- $of := (default dict .valueFrom).secretKeyRef | default .secretRef | default dict -}}
{{- if and $keys (eq (default "" $of.name) $keys) -}}
{{- include "affidavit.refuse" (printf "%s: a variable would be of the Secret %s, which holds the keys of the evidence (keys.existingSecret): the gate alone has them." $.where $keys) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Who ships the access log reads it and nothing else: beside it are the registry's database, and evidence that is not in
   the store yet. Without a user of its own a container is the gate's, whose files those are. */}}
{{- define "affidavit.validateReader" -}}
{{- if not (and (eq (default "" .mount.subPath) "access") .mount.readOnly) -}}
{{- include "affidavit.refuse" (printf "%s: volumeMounts: state holds the registry and evidence that is not shipped, and only the access log in it is for others: mount it with subPath: access and readOnly: true." .where) -}}
{{- end -}}
{{- if not .user -}}
{{- include "affidavit.refuse" (printf "%s: securityContext.runAsUser: without one this container runs as the gate (users.gate), and it mounts state: name a user that is none of users." .where) -}}
{{- end -}}
{{- range $who, $id := omit .root.Values.users "group" -}}
{{- if eq (int $.user) (int (default 0 $id)) -}}
{{- include "affidavit.refuse" (printf "%s: securityContext.runAsUser: %d is users.%s, and this container mounts state: name a user that is none of users." $.where (int $id) $who) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "affidavit.validateContainer" -}}
{{- $one := .container -}}
{{- $where := printf "%s: %s" .where $one.name -}}
{{- if has $one.name (list "render" "opa" "gate" "envoy" "drain") -}}
{{- include "affidavit.refuse" (printf "%s.name: %s is a container of the gateway." .where $one.name) -}}
{{- end -}}
{{- $security := default dict $one.securityContext -}}
{{- if and (hasKey $security "runAsUser") (eq (int $security.runAsUser) 0) -}}
{{- include "affidavit.refuse" (printf "%s: securityContext.runAsUser is 0, but nothing runs as root here." $where) -}}
{{- end -}}
{{- $own := include "affidavit.ownPorts" .root | fromJson -}}
{{- $_ := set $own "gateway" .root.Values.listener.port -}}
{{- range $port := $one.ports -}}
{{- if $port.hostPort -}}
{{- include "affidavit.refuse" (printf "%s: ports: hostPort opens the node's port %v: Pod Security restricted has none." $where $port.hostPort) -}}
{{- end -}}
{{- if and $port.name (hasKey $own $port.name) -}}
{{- include "affidavit.refuse" (printf "%s: ports: %s is the name of a port of the gateway's." $where $port.name) -}}
{{- end -}}
{{- range $name, $number := $own -}}
{{- if eq (int $port.containerPort) (int $number) -}}
{{- include "affidavit.refuse" (printf "%s: ports: %d is the gateway's own (%s)." $where (int $number) $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "affidavit.validateEnv" (dict "root" .root "where" $where "variables" (concat (default list $one.env) (default list $one.envFrom))) -}}
{{- range $one.volumeMounts -}}
{{- if and (eq $.where "extraContainers") (eq .name "state") -}}
{{- include "affidavit.validateReader" (dict "root" $.root "where" $where "mount" . "user" (default 0 $security.runAsUser)) -}}
{{- else -}}
{{- include "affidavit.validateMount" (dict "root" $.root "where" (printf "%s: volumeMounts" $where) "mount" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
