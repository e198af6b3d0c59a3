{{- define "sottovoce.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "sottovoce.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sottovoce.labels" -}}
{{ include "sottovoce.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "sottovoce.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* Whether the model is fetched: pico is inside the binary. */ -}}
{{- define "sottovoce.fetched" -}}
{{- if ne .Values.model "pico" }}yes{{ end }}
{{- end }}

{{- define "sottovoce.secret" -}}
{{- if .Values.keys.existingSecret }}{{ .Values.keys.existingSecret }}
{{- else if .Values.keys.values }}{{ include "sottovoce.name" . }}-keys
{{- end }}
{{- end }}

{{- define "sottovoce.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "sottovoce.claim" -}}
accessModes: [{{ .accessMode }}]
{{- if .storageClass }}
storageClassName: {{ .storageClass | quote }}
{{- end }}
resources:
  requests: {storage: {{ .size }}}
{{- end }}
