{{- /* What every object carries. The dot is the root. */ -}}
{{- define "ambit.labels" -}}
app.kubernetes.io/part-of: ambit
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ quote .Values.image.tag }}
{{- end -}}

{{- /* An image by its name: dict "root" $ "name" NAME */ -}}
{{- define "ambit.image" -}}
{{ quote (printf "%s/%s:%s" .root.Values.image.hub .name .root.Values.image.tag) }}
{{- end -}}

{{- /* Secrets to pull images with, in a pod's spec. */ -}}
{{- define "ambit.pull" -}}
{{- if .Values.image.pullSecrets -}}
imagePullSecrets:
{{- range .Values.image.pullSecrets }}
  - name: {{ quote . }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Settings that values add by name: a map. */ -}}
{{- define "ambit.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ quote $value }}
{{- end }}
{{- end -}}
