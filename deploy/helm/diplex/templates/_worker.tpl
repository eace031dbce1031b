{{/* A worker's deployment. Of: root, component, backend, values. */}}
{{- define "diplex.worker" -}}
{{- $worker := .values }}
{{- $mtls := not (empty .root.Values.tls.workers.secretName) }}
{{- $cuda := and (hasKey $worker "gpu") $worker.gpu.enabled }}
{{- $image := include "diplex.image" (dict "root" .root "image" $worker.image "suffix" (ternary "-cuda" "" $cuda)) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "diplex.metadata" . | nindent 2 }}
spec:
  {{- if not $worker.autoscaling.enabled }}
  replicas: {{ $worker.replicas }}
  {{- end }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- toYaml $worker.rollingUpdate | nindent 6 }}
  selector:
    matchLabels:
      {{- include "diplex.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- with $worker.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- include "diplex.selector" . | nindent 8 }}
      {{- with $worker.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "diplex.pod" . | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "diplex.gracePeriod" $worker }}
      {{- if $worker.store.pull }}
      {{- with uniq (concat $worker.models $worker.pinned) }}
      initContainers:
        {{- range $index, $model := . }}
        - name: pull-{{ $index }}
          image: {{ $image }}
          imagePullPolicy: {{ $.root.Values.image.pullPolicy }}
          args:
            - pull
            - {{ $model | quote }}
            {{- range $worker.acceptLicences }}
            - {{ printf "--accept-licence=%s" . | quote }}
            {{- end }}
          env:
            - {name: DIPLEX_HOME, value: /var/lib/diplex}
            {{- with $worker.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with $worker.envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          resources:
            {{- toYaml $worker.store.pullResources | nindent 12 }}
          securityContext:
            {{- include "diplex.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: store, mountPath: /var/lib/diplex}
            - {name: tmp, mountPath: /tmp}
        {{- end }}
      {{- end }}
      {{- end }}
      containers:
        - name: worker
          image: {{ $image }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args:
            {{- include "diplex.workerArguments" . | nindent 12 }}
          env:
            - {name: DIPLEX_HOME, value: /var/lib/diplex}
            - name: DIPLEX_WORKER_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- include "diplex.threads" . | nindent 12 }}
            {{- with $worker.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with $worker.envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - {name: grpc, containerPort: 50061}
            - {name: metrics, containerPort: 9465}
            {{- if $mtls }}
            - {name: health, containerPort: 50059}
            {{- end }}
          {{- $ready := ternary "" "liveness" (not (empty (concat $worker.models $worker.pinned))) }}
          {{- include "diplex.probes" (dict "port" (ternary 50059 50061 $mtls) "ready" $ready) | nindent 10 }}
          resources:
            {{- include "diplex.workerResources" . | nindent 12 }}
          securityContext:
            {{- include "diplex.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: store, mountPath: /var/lib/diplex}
            - {name: tmp, mountPath: /tmp}
            {{- if $mtls }}
            - {name: tls, mountPath: /etc/diplex/tls, readOnly: true}
            {{- else }}
            - {name: gateway-token, mountPath: /etc/diplex/gateway-token, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 1Gi}
        - name: store
          {{- if eq $worker.store.kind "claim" }}
          persistentVolumeClaim:
            claimName: {{ default (printf "%s-%s" (include "diplex.fullname" .root) .component) $worker.store.existingClaim }}
          {{- else }}
          emptyDir: {sizeLimit: {{ $worker.store.size }}}
          {{- end }}
        {{- if $mtls }}
        - name: tls
          secret: {secretName: {{ .root.Values.tls.workers.secretName }}, defaultMode: 0440}
        {{- else }}
        - name: gateway-token
          secret: {secretName: {{ include "diplex.workerToken" .root }}, defaultMode: 0440}
        {{- end }}
{{- end }}

{{- define "diplex.workerArguments" -}}
{{- $worker := .values }}
{{- $values := .root.Values }}
- serve
- {{ printf "--listen=%s:50061" $values.listenHost | quote }}
- {{ printf "--metrics-listen=%s:9465" $values.listenHost | quote }}
- {{ printf "--slots=%v" $worker.slots | quote }}
- {{ printf "--drain-seconds=%v" $worker.drainSeconds | quote }}
- {{ printf "--log-format=%s" $values.log.format | quote }}
- {{ printf "--log-level=%s" $values.log.level | quote }}
{{- if hasKey $worker "gpu" }}
- {{ printf "--device=%s" (ternary "cuda" "cpu" $worker.gpu.enabled) | quote }}
{{- end }}
{{- range $worker.models }}
- {{ printf "--model=%s" . | quote }}
{{- end }}
{{- range $worker.pinned }}
- {{ printf "--pin=%s" . | quote }}
{{- end }}
{{- range $worker.acceptLicences }}
- {{ printf "--accept-licence=%s" . | quote }}
{{- end }}
{{- with $values.traces.endpoint }}
- {{ printf "--traces-endpoint=%s" . | quote }}
{{- end }}
{{- with $values.tls.workers }}
{{- if .secretName }}
- {{ printf "--health-listen=%s:50059" $values.listenHost | quote }}
- --tls-certificate-file=/etc/diplex/tls/tls.crt
- --tls-key-file=/etc/diplex/tls/tls.key
- --tls-client-ca-file=/etc/diplex/tls/ca.crt
- {{ printf "--gateway-name=%s" .gatewayName | quote }}
{{- else }}
- --gateway-token-file=/etc/diplex/gateway-token/token
{{- end }}
{{- end }}
{{- range $worker.options }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* A node may have many more cores than a pod may use, and workers take a thread for each that they see. */}}
{{- define "diplex.threads" -}}
{{- $limits := default (dict) .values.resources.limits }}
{{- $requests := default (dict) .values.resources.requests }}
{{- if .values.threads }}
- {name: DIPLEX_THREADS, value: {{ .values.threads | quote }}}
{{- else if $limits.cpu }}
- name: DIPLEX_THREADS
  valueFrom: {resourceFieldRef: {containerName: worker, resource: limits.cpu}}
{{- else if $requests.cpu }}
- name: DIPLEX_THREADS
  valueFrom: {resourceFieldRef: {containerName: worker, resource: requests.cpu}}
{{- end }}
{{- end }}

{{- define "diplex.workerResources" -}}
{{- $resources := deepCopy .values.resources }}
{{- if and (hasKey .values "gpu") .values.gpu.enabled }}
{{- $limits := merge (dict .values.gpu.resource .values.gpu.count) (default (dict) $resources.limits) }}
{{- $_ := set $resources "limits" $limits }}
{{- end }}
{{- toYaml $resources }}
{{- end }}
