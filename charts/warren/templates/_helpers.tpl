{{- define "warren.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "warren.operator" -}}
{{ include "warren.fullname" . }}-operator
{{- end -}}

{{- define "warren.selector" -}}
app.kubernetes.io/name: warren-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "warren.labels" -}}
{{ include "warren.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: warren
app.kubernetes.io/component: operator
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* An image: the repository as it is if it carries a tag or digest, else with the registry and tag of the values. */ -}}
{{- define "warren.image" -}}
{{- $values := .root.Values.images -}}
{{- $repository := .repository -}}
{{- if $values.registry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" $values.registry) $repository -}}
{{- end -}}
{{- if or (contains "@" $repository) (contains ":" (last (splitList "/" $repository))) -}}
{{- $repository -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion $values.tag) -}}
{{- end -}}
{{- end -}}

{{- define "warren.rules" -}}
- apiGroups: [warren.dev]
  resources: [meshes, nodes, derprelays]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [warren.dev]
  resources: [meshes/status, nodes/status, derprelays/status]
  verbs: [get, update, patch]
- apiGroups: [warren.dev]
  resources: [meshes/finalizers, nodes/finalizers, derprelays/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments, daemonsets]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, create, update, patch, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [""]
  resources: [secrets, services, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, create, update, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [get, create, patch]
{{- end -}}
