{{/* Names, labels, images: what every manifest says in the same words. */}}

{{- define "xinstruct.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* "<release>-xinstruct", or the release's name where it says so already. 40 characters leave room for suffixes. */}}
{{- define "xinstruct.fullname" -}}
{{- $name := include "xinstruct.name" . -}}
{{- $derived := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $derived | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What selects pods, and never changes. Takes (list $ component). */}}
{{- define "xinstruct.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "xinstruct.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/*
All labels of a pod: the chart's version is not among them, or every change of the chart would replace every pod. Takes
(list $ component), or (list $ component labels), which win over the common ones: a key may stand there once.
*/}}
{{- define "xinstruct.podLabels" -}}
{{- $root := index . 0 -}}
{{- $own := dict -}}
{{- if gt (len .) 2 }}{{ $own = index . 2 | default dict }}{{ end -}}
{{ include "xinstruct.selector" . }}
app.kubernetes.io/part-of: xinstruct
{{- with merge dict $own ($root.Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* All labels of an object. Takes what xinstruct.podLabels does. */}}
{{- define "xinstruct.labels" -}}
{{- $root := index . 0 -}}
{{ include "xinstruct.podLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The metadata of an object. Takes (list $ component), (list $ component suffix-of-the-name), or that and labels. */}}
{{- define "xinstruct.metadata" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $own := dict -}}
{{- if gt (len .) 3 }}{{ $own = index . 3 }}{{ end -}}
name: {{ include "xinstruct.fullname" $root }}-{{ slice . 1 (gt (len .) 2 | ternary 3 2) | last }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "xinstruct.labels" (list $root $component $own) | nindent 2 }}
{{- with $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image by digest or tag. Takes (list $ name-in-images). */}}
{{- define "xinstruct.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- with $root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* JSON of the services that run: name → its values over the defaults. */}}
{{- define "xinstruct.services" -}}
{{- $running := dict -}}
{{- range $name, $own := .Values.services -}}
{{- $s := mustMergeOverwrite (deepCopy $.Values.defaults) (deepCopy ($own | default dict)) -}}
{{- if $s.enabled }}{{ $_ := set $running $name $s }}{{ end -}}
{{- end -}}
{{- toJson $running -}}
{{- end -}}

{{/* "true" where a kind is to be made: always, or auto and its API is there. Takes (list $ choice api). */}}
{{- define "xinstruct.wanted" -}}
{{- $root := index . 0 -}}
{{- $choice := index . 1 -}}
{{- if or (eq $choice "always") (and (eq $choice "auto") ($root.Capabilities.APIVersions.Has (index . 2))) }}true{{ end -}}
{{- end -}}

{{/* What scales a service: "hpa", "keda", or nothing, and then it has its replicas. Takes (list $ $s). */}}
{{- define "xinstruct.scaler" -}}
{{- $root := index . 0 -}}
{{- $s := index . 1 -}}
{{- if eq $s.scaling.kind "hpa" }}hpa{{ end -}}
{{- if eq $s.scaling.kind "keda" -}}
{{- if include "xinstruct.wanted" (list $root $root.Values.keda.scaledObject "keda.sh/v1alpha1") }}keda{{ end -}}
{{- end -}}
{{- end -}}

{{/* Name of the shared volume's claim. */}}
{{- define "xinstruct.claim" -}}
{{- .Values.storage.existingClaim | default (printf "%s-data" (include "xinstruct.fullname" .)) -}}
{{- end -}}

{{/* Name of the Secret with the certificate of the gRPC ports. */}}
{{- define "xinstruct.tlsSecret" -}}
{{- .Values.tls.secretName | default (printf "%s-tls" (include "xinstruct.fullname" .)) -}}
{{- end -}}

{{/*
Name of the Secret with the authorities of those certificates; empty: none is known to have them, and tls.crt is believed.
It is not where an authority is known: when a certificate is renewed, pods get it one after the other.
*/}}
{{- define "xinstruct.tlsAuthority" -}}
{{- with .Values.tls -}}
{{- $beside := or .mutual.enabled (not .secretName) | ternary (include "xinstruct.tlsSecret" $) "" -}}
{{- .mutual.authoritySecret.name | default $beside -}}
{{- end -}}
{{- end -}}

{{/* The storageClassName of a claim, if any: "-" stands for none. Takes the value. */}}
{{- define "xinstruct.storageClass" -}}
{{- if . }}storageClassName: {{ eq . "-" | ternary "" . | quote }}{{ end -}}
{{- end -}}
