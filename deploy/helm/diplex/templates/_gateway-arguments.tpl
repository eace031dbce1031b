{{/* The gateway's configuration, each key as an option, so that a change of it replaces the pods. */}}
{{- define "diplex.gatewayArguments" -}}
{{- $set := dict }}
{{- $workers := list }}
{{- $models := list }}
{{- range fromJsonArray (include "diplex.workers" .) }}
{{- $models = concat $models .values.models .values.pinned }}
{{- $workers = append $workers (printf "dns:///%s-%s:50061" (include "diplex.fullname" $) .component) }}
{{- end }}
{{- $_ := set $set "listen" (printf "%s:50051" .Values.listenHost) }}
{{- $_ := set $set "workers" (join "," $workers) }}
{{- $_ := set $set "http.listen" (ternary (printf "%s:8000" .Values.listenHost) "" .Values.gateway.http) }}
{{- $_ := set $set "metrics.listen" (printf "%s:9464" .Values.listenHost) }}
{{- $_ := set $set "processes" .Values.gateway.processes }}
{{- $_ := set $set "drain_seconds" .Values.gateway.drainSeconds }}
{{- $_ := set $set "log.format" .Values.log.format }}
{{- $_ := set $set "log.level" .Values.log.level }}
{{- $_ := set $set "resilience.resumption_keys_file" "/etc/diplex/resumption/keys" }}
{{- with .Values.traces.endpoint }}
{{- $_ := set $set "traces.endpoint" . }}
{{- end }}
{{- with first (regexFindAll "^(hf:[^/@]+/[^/@]+|[^/:.][^/:]*)" (default "" (first $models)) 1) }}
{{- $_ := set $set "default_model" . }}
{{- end }}
{{- if .Values.auth.enabled }}
{{- $_ := set $set "security.keys_file" "/etc/diplex/api-keys/keys.toml" }}
{{- else if not .Values.tls.gateway.clientCertificates }}
{{- $_ := set $set "security.allow_unauthenticated" true }}
{{- end }}
{{- with .Values.tls.gateway }}
{{- if .secretName }}
{{- $_ := set $set "health.listen" (printf "%s:50059" $.Values.listenHost) }}
{{- $_ := set $set "security.certificate_file" "/etc/diplex/tls/tls.crt" }}
{{- $_ := set $set "security.key_file" "/etc/diplex/tls/tls.key" }}
{{- if .clientCertificates }}
{{- $_ := set $set "security.client_ca_file" "/etc/diplex/tls/ca.crt" }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.tls.workers }}
{{- if .secretName }}
{{- $_ := set $set "security.worker_ca_file" "/etc/diplex/worker-tls/ca.crt" }}
{{- $_ := set $set "security.worker_certificate_file" "/etc/diplex/worker-tls/tls.crt" }}
{{- $_ := set $set "security.worker_key_file" "/etc/diplex/worker-tls/tls.key" }}
{{- with .serverName }}
{{- $_ := set $set "security.worker_server_name" . }}
{{- end }}
{{- else }}
{{- $_ := set $set "security.worker_token_file" "/etc/diplex/worker-token/token" }}
{{- end }}
{{- end }}
{{- $set = merge (dict) .Values.gateway.settings $set }}
{{- range $key := keys $set | sortAlpha }}
{{- $value := index $set $key }}
{{- if kindIs "slice" $value }}
{{- $value = join "," $value }}
{{- else if not (kindIs "string" $value) }}
{{- $value = toJson $value }}
{{- end }}
- {{ printf "--set=%s=%s" $key $value | quote }}
{{- end }}
{{- end }}
