{{- define "diplex.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "diplex.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "diplex.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "diplex.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The labels by which one component's pods are found. Of: root, component. */}}
{{- define "diplex.selector" -}}
app.kubernetes.io/name: {{ include "diplex.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Name, namespace and labels of an object. Of: root, component, and optionally name. */}}
{{- define "diplex.metadata" -}}
name: {{ default (printf "%s-%s" (include "diplex.fullname" .root) .component) .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "diplex.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (replace "+" "_" .root.Chart.Version) }}
{{- end }}

{{/* Of: root, image, suffix of the tag unless the image names one. */}}
{{- define "diplex.image" -}}
{{- $repository := .image.repository }}
{{- if .root.Values.image.registry }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .root.Values.image.registry) $repository }}
{{- end }}
{{- if .image.digest }}
{{- printf "%s@%s" $repository .image.digest }}
{{- else }}
{{- $tag := default .root.Chart.AppVersion .root.Values.image.tag }}
{{- printf "%s:%s" $repository (default (printf "%s%s" $tag (default "" .suffix)) .image.tag) }}
{{- end }}
{{- end }}

{{/* The components that are workers and enabled, as a list in JSON: component, values, backend. */}}
{{- define "diplex.workers" -}}
{{- $workers := list }}
{{- range $backend := list "onnx" "torch" }}
{{- $values := index $.Values $backend }}
{{- if $values.enabled }}
{{- $workers = append $workers (dict "component" (printf "%s-worker" $backend) "backend" $backend "values" $values) }}
{{- end }}
{{- end }}
{{- toJson $workers }}
{{- end }}

{{- define "diplex.apiKeys" -}}
{{- default (printf "%s-api-keys" (include "diplex.fullname" .)) .Values.auth.existingSecret }}
{{- end }}

{{- define "diplex.workerToken" -}}
{{- default (printf "%s-worker-token" (include "diplex.fullname" .)) .Values.auth.workerToken.existingSecret }}
{{- end }}

{{- define "diplex.resumptionKeys" -}}
{{- default (printf "%s-resumption-keys" (include "diplex.fullname" .)) .Values.auth.resumptionKeys.existingSecret }}
{{- end }}
