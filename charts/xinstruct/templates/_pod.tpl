{{/* Pieces of pods, for services, Jobs, broker and database alike: restricted Pod Security everywhere. */}}

{{/* The pod's security context. Takes $. */}}
{{- define "xinstruct.podSecurity" -}}
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
{{- define "xinstruct.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where pods go and how their images are pulled. Takes (list $ values-with-nodeSelector-and-so-on). */}}
{{- define "xinstruct.scheduling" -}}
{{- $root := index . 0 -}}
{{- $s := index . 1 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $s.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $s.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $s.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $s.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $s.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Volumes of secrets. Takes (list $ name). */}}
{{- define "xinstruct.secretVolumes" -}}
{{- range $folder, $mounted := include "xinstruct.secrets" . | fromJson }}
- name: secret-{{ $folder }}
  secret:
    secretName: {{ $mounted.secret }}
    defaultMode: 288  # 0440: YAML readers differ on numbers that begin with 0
    items:
      {{- range $key, $file := $mounted.items }}
      - key: {{ $key }}
        path: {{ $file }}
      {{- end }}
{{- end }}
{{- end -}}

{{/* Their mounts. Takes (list $ name). */}}
{{- define "xinstruct.secretMounts" -}}
{{- range $folder, $mounted := include "xinstruct.secrets" . | fromJson }}
- name: secret-{{ $folder }}
  mountPath: /etc/xinstruct/secrets/{{ $folder }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* Credentials and place of the object store: variables of the S3 client, which reads nothing else. Takes $. */}}
{{- define "xinstruct.objectStoreVariables" -}}
{{- with .Values.objectStore.credentialsSecret }}
{{- if .name }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .accessKeyIdKey }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .secretAccessKeyKey }}}}
{{- end }}
{{- end }}
{{- with .Values.objectStore.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.objectStore.region }}
- name: AWS_DEFAULT_REGION
  value: {{ . | quote }}
{{- end }}
{{- if .Values.objectStore.caSecret.name }}
- name: AWS_CA_BUNDLE
  value: /etc/xinstruct/secrets/object-store-ca/ca.crt
{{- end }}
{{- end -}}

{{/* Whose certificate the database must show: variables of the PostgreSQL client; an sslmode in the URL wins. Takes $. */}}
{{- define "xinstruct.databaseVariables" -}}
{{- if .Values.database.caSecret.name }}
- name: PGSSLROOTCERT
  value: /etc/xinstruct/secrets/database-ca/ca.crt
- name: PGSSLMODE
  value: verify-full
{{- end }}
{{- end -}}

{{/* The gRPC service that a target serves: scoring-a → xinstruct.v1.ScoringService. Takes the target's name. */}}
{{- define "xinstruct.grpcService" -}}
xinstruct.v1.{{ splitList "-" . | first | title }}Service
{{- end -}}

{{/* How a probe asks: the kubelet speaks no TLS, so with it on the port of health alone. Takes (list $ gRPC-service). */}}
{{- define "xinstruct.probe" -}}
grpc: {port: {{ (index . 0).Values.tls.enabled | ternary 7701 7700 }}, service: {{ index . 1 }}}
{{- end -}}

{{/*
Seconds between a pod's last order and its end: preStop, the configured drain, and a margin for what is left behind.
Takes the service's configuration.
*/}}
{{- define "xinstruct.graceS" -}}
{{- add 2 (ceil (dig "process" "drain_s" 6.5 .)) 5 -}}
{{- end -}}
