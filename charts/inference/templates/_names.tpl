{{/* Names, labels, images: what every manifest says in the same words. */}}

{{- define "inference.name" -}}
{{- .Values.nameOverride | default (printf "xinstruct-%s" .Chart.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "inference.fullname" -}}
{{- .Values.fullnameOverride | default (include "inference.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of a model's objects. Takes (list $ name). */}}
{{- define "inference.object" -}}
{{- include "inference.fullname" (index . 0) }}-{{ index . 1 -}}
{{- end -}}

{{/* What selects pods, and never changes. Takes (list $ name). */}}
{{- define "inference.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "inference.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/*
All labels of a pod, without versions: a change of the chart alone replaces no pod. Takes (list $ name), or
(list $ name labels), which win over the common ones: a key may stand there once.
*/}}
{{- define "inference.podLabels" -}}
{{- $root := index . 0 -}}
{{- $own := dict -}}
{{- if gt (len .) 2 }}{{ $own = index . 2 | default dict }}{{ end -}}
{{ include "inference.selector" . }}
app.kubernetes.io/part-of: xinstruct
{{- with merge dict $own ($root.Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* All labels of an object. Takes what inference.podLabels does. */}}
{{- define "inference.labels" -}}
{{- $root := index . 0 -}}
{{ include "inference.podLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The metadata of an object. Takes (list $ name), (list $ component suffix-of-the-name), or that and labels. */}}
{{- define "inference.metadata" -}}
{{- $root := index . 0 -}}
{{- $own := dict -}}
{{- if gt (len .) 3 }}{{ $own = index . 3 }}{{ end -}}
name: {{ include "inference.fullname" $root }}-{{ slice . 1 (gt (len .) 2 | ternary 3 2) | last }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "inference.labels" (list $root (index . 1) $own) | nindent 2 }}
{{- with $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image by digest or tag. Takes (list $ name-in-images). */}}
{{- define "inference.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- with $root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* JSON of the models that are served: name → its values over the defaults. */}}
{{- define "inference.models" -}}
{{- $served := dict -}}
{{- range $name, $own := .Values.models -}}
{{- $m := mustMergeOverwrite (deepCopy $.Values.defaults) (deepCopy ($own | default dict)) -}}
{{- if not $m.role }}{{ $_ := set $m "role" $name }}{{ end -}}
{{- if not $m.servedName }}{{ $_ := set $m "servedName" $name }}{{ end -}}
{{- if $m.enabled }}{{ $_ := set $served $name $m }}{{ end -}}
{{- end -}}
{{- toJson $served -}}
{{- end -}}

{{/* "true" where a kind is to be made: always, or auto and its API is there. Takes (list $ choice api). */}}
{{- define "inference.wanted" -}}
{{- $root := index . 0 -}}
{{- $choice := index . 1 -}}
{{- if or (eq $choice "always") (and (eq $choice "auto") ($root.Capabilities.APIVersions.Has (index . 2))) }}true{{ end -}}
{{- end -}}

{{/* "true" where KServe serves. Takes $. */}}
{{- define "inference.kserve" -}}
{{- include "inference.wanted" (list . .Values.kserve.enabled "serving.kserve.io/v1beta1") -}}
{{- end -}}

{{/* "true" where KEDA scales a model. Takes (list $ $m). */}}
{{- define "inference.scaled" -}}
{{- $root := index . 0 -}}
{{- if eq (index . 1).scaling.kind "keda" -}}
{{- include "inference.wanted" (list $root $root.Values.keda.scaledObject "keda.sh/v1alpha1") -}}
{{- end -}}
{{- end -}}
