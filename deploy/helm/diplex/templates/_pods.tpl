{{/* What all pods have alike. Of: root, component, values (of the component). */}}
{{- define "diplex.pod" -}}
serviceAccountName: {{ include "diplex.fullname" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "diplex.selector" . | nindent 8 }}
  {{- end }}
{{- end }}

{{- define "diplex.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Probes. Of: port (a name), ready (the service whose health counts for readiness). gRPC probes take numbers only. */}}
{{- define "diplex.probes" -}}
startupProbe:
  grpc: {port: {{ .port }}, service: liveness}
  periodSeconds: 2
  failureThreshold: 60
  timeoutSeconds: 2
livenessProbe:
  grpc: {port: {{ .port }}, service: liveness}
  periodSeconds: 10
  failureThreshold: 6
  timeoutSeconds: 5
readinessProbe:
  grpc: {port: {{ .port }}{{ with .ready }}, service: {{ . }}{{ end }}}
  periodSeconds: 3
  failureThreshold: 2
  timeoutSeconds: 3
{{- end }}

{{/* Drain time, the sleep before it, and ten seconds in which what was ended cleans up. */}}
{{- define "diplex.gracePeriod" -}}
{{- add (ceil .drainSeconds) (default 0 .preStopSeconds) 10 }}
{{- end }}
