{{/* Pieces of pods, for InferenceServices and Deployments alike: restricted Pod Security everywhere. */}}

{{/* The pod's security context. Takes $. */}}
{{- define "inference.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurity.runAsUser }}
runAsUser: {{ . | int64 }}
runAsGroup: {{ . | int64 }}
{{- end }}
{{- with .Values.podSecurity.fsGroup }}
fsGroup: {{ . | int64 }}
# Changing the owner of a big volume's files takes minutes: only where the top folder says that it is needed.
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* A container's security context. */}}
{{- define "inference.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What a pod says of itself, in the words of PodSpec, which an InferenceService's predictor uses too.
Takes (list $ name $m). */}}
{{- define "inference.podSpec" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $m := index . 2 -}}
serviceAccountName: {{ include "inference.object" (list $root $name) }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $m.graceS }}
securityContext:
  {{- include "inference.podSecurity" $root | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $m.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $m.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $m.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $m.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $m.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $m.spreadOver }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "inference.selector" (list $root $name) | nindent 8 }}
{{- end }}
{{- end -}}

{{/* How a change replaces pods. Takes $m. */}}
{{- define "inference.strategy" -}}
type: RollingUpdate
rollingUpdate:
  {{- if eq .rollout "surge" }}
  maxSurge: 1
  maxUnavailable: 0
  {{- else }}
  maxSurge: 0
  maxUnavailable: 1
  {{- end }}
{{- end -}}

{{/* Volumes that every server has. Takes $m. */}}
{{- define "inference.volumes" -}}
- name: scratch
  emptyDir:
    sizeLimit: {{ .scratchSize }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .sharedMemorySize }}
{{- with .filesConfigMap }}
- name: files
  configMap:
    name: {{ . }}
{{- end }}
{{- end -}}

{{/* Their mounts. Takes $m. */}}
{{- define "inference.mounts" -}}
- name: scratch
  mountPath: /tmp
- name: shared-memory
  mountPath: /dev/shm
{{- with .filesConfigMap }}
- name: files
  mountPath: /etc/inference
  readOnly: true
{{- end }}
{{- end -}}
