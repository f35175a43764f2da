{{/*
The configuration file of a process: `config`, the service's own `config` over it, and over both what the chart knows.
Takes (list $ name own-config); a Job's name is "jobs", which serves nothing.
*/}}
{{- define "xinstruct.config" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $chosen := mustMergeOverwrite (deepCopy $root.Values.config) (deepCopy (index . 2)) -}}
{{- $known := dict "home" "/var/lib/xinstruct" "log" (include "xinstruct.configLog" (list $root $name) | fromJson) -}}
{{- if $root.Values.postgres.enabled -}}
{{- $_ := set $known "database_url" (printf "postgresql+psycopg://xinstruct@%s-postgres.%s.svc:5432/xinstruct" (include "xinstruct.fullname" $root) $root.Release.Namespace) -}}
{{- end -}}
{{- if $root.Values.database.passwordSecret.name -}}
{{- $_ := set $known "database_password_file" "/etc/xinstruct/secrets/database/password" -}}
{{- end -}}
{{- $training := dict -}}
{{- if eq (dig "training" "jobs" "kind" "local" $chosen) "kubernetes" -}}
{{- $_ := set $training "jobs" (dict "manifest_file" "/etc/xinstruct/config/job.json") -}}
{{- end -}}
{{- if dig "training" "serving" dict $chosen -}}
{{- $_ := set $training "serving" (dict "volume_claim" (include "xinstruct.claim" $root)) -}}
{{- end -}}
{{- with $training }}{{ $_ := set $known "training" . }}{{ end -}}
{{- if and (eq $name "crawler") $root.Values.tests.mainJob.enabled -}}
{{- $allowed := append (dig "crawler" "fetch" "private_hosts_allowed" list $chosen) (include "xinstruct.testSite" $root) -}}
{{- $_ := set $known "crawler" (dict "fetch" (dict "private_hosts_allowed" $allowed)) -}}
{{- end -}}
{{- if ne $name "jobs" -}}
{{- $_ := set $known "rpc" (include "xinstruct.configRpc" $root | fromJson) -}}
{{- $_ := set $known "telemetry" (dict "metrics_host" "0.0.0.0" "metrics_port" 9464) -}}
{{- $_ := set $known "addresses" (include "xinstruct.configAddresses" $root | fromJson) -}}
{{- $_ := set $known "inference" (include "xinstruct.configInference" $root | fromJson) -}}
{{- end -}}
{{- mustMergeOverwrite $chosen $known | toYaml -}}
{{- end -}}

{{/*
JSON of what the chart knows of the log. Topics are made by the first start where the broker is our own. Takes
(list $ name).
*/}}
{{- define "xinstruct.configLog" -}}
{{- $root := index . 0 -}}
{{- $client := $root.Values.kafkaClient -}}
{{- $log := dict "kind" "kafka" "topics" ($root.Values.kafka.enabled | ternary "create" "expect") -}}
{{- if $root.Values.kafka.enabled }}{{ $_ := set $log "bootstrap_servers" (include "xinstruct.ownBroker" $root) }}{{ end -}}
{{- $folder := "/etc/xinstruct/secrets" -}}
{{- if $client.caSecret.name }}{{ $_ := set $log "ssl_ca_file" (print $folder "/kafka-ca/ca.crt") }}{{ end -}}
{{- if include "xinstruct.hasUser" . -}}
{{- $user := ($root.Values.config.log | default dict).sasl_username -}}
{{- if and $user $client.userPerService }}{{ $_ := set $log "sasl_username" (include "xinstruct.ofUser" (list $root (last .) $user)) }}{{ end -}}
{{- if $client.saslPasswordSecret.name }}{{ $_ := set $log "sasl_password_file" (print $folder "/kafka-sasl/password") }}{{ end -}}
{{- if $client.certificateSecret.name -}}
{{- $_ := set $log "ssl_certificate_file" (print $folder "/kafka-certificate/tls.crt") -}}
{{- $_ := set $log "ssl_key_file" (print $folder "/kafka-certificate/tls.key") -}}
{{- end -}}
{{- end -}}
{{- toJson $log -}}
{{- end -}}

{{/*
"true" for a process that Kafka lets in. Where each service has a user of its own there is none for Jobs: what is left of
them asks Kafka nothing. Takes (list $ name).
*/}}
{{- define "xinstruct.hasUser" -}}
{{- $root := index . 0 -}}
{{- if not (and (eq (index . 1) "jobs") $root.Values.kafkaClient.userPerService) }}true{{ end -}}
{{- end -}}

{{/* The name of a service's own Kafka user or Secret, or the one of all. Takes (list $ service name-of-all). */}}
{{- define "xinstruct.ofUser" -}}
{{- $root := index . 0 -}}
{{- last . -}}{{- if $root.Values.kafkaClient.userPerService }}-{{ index . 1 }}{{ end -}}
{{- end -}}

{{/* Host and port of the site of `helm test`. Takes $. */}}
{{- define "xinstruct.testSite" -}}
{{- .Values.tests.mainJob.site | default (printf "%s-test.%s.svc:8780" (include "xinstruct.fullname" .) .Release.Namespace) -}}
{{- end -}}

{{/* "true" where `helm test` serves that site itself. Takes $. */}}
{{- define "xinstruct.ownSite" -}}
{{- if and .Values.tests.mainJob.enabled (not .Values.tests.mainJob.site) }}true{{ end -}}
{{- end -}}

{{- define "xinstruct.ownBroker" -}}
{{- $name := printf "%s-kafka" (include "xinstruct.fullname" .) -}}
{{- printf "%s-0.%s.%s.svc:9092" $name $name .Release.Namespace -}}
{{- end -}}

{{/* JSON of the gRPC port: on every address of the pod, so never without the token. */}}
{{- define "xinstruct.configRpc" -}}
{{- $rpc := dict "host" "0.0.0.0" "port" 7700 "token_file" "/etc/xinstruct/secrets/token/token" -}}
{{- if .Values.tls.enabled -}}
{{- $_ := set $rpc "health_port" 7701 -}}
{{- $_ := set $rpc "tls_certificate_file" "/etc/xinstruct/secrets/tls/tls.crt" -}}
{{- $_ := set $rpc "tls_key_file" "/etc/xinstruct/secrets/tls/tls.key" -}}
{{- if include "xinstruct.tlsAuthority" . -}}
{{- $_ := set $rpc "tls_ca_file" "/etc/xinstruct/secrets/tls-authority/ca.crt" -}}
{{- if .Values.tls.mutual.enabled }}{{ $_ := set $rpc "tls_client_ca_file" $rpc.tls_ca_file }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $rpc -}}
{{- end -}}

{{/* JSON of where each running service serves: what the command line in a pod asks. */}}
{{- define "xinstruct.configAddresses" -}}
{{- $addresses := dict -}}
{{- range $name, $s := include "xinstruct.services" . | fromJson -}}
{{- $_ := set $addresses $name (printf "%s-%s.%s.svc:7700" (include "xinstruct.fullname" $) $name $.Release.Namespace) -}}
{{- end -}}
{{- toJson $addresses -}}
{{- end -}}

{{/* JSON of the mounted keys of endpoints. */}}
{{- define "xinstruct.configInference" -}}
{{- $roles := dict -}}
{{- range $role, $secret := .Values.inferenceKeySecrets -}}
{{- if $secret.name }}{{ $_ := set $roles $role (dict "api_key_file" (printf "/etc/xinstruct/secrets/key-%s/key" $role)) }}{{ end -}}
{{- end -}}
{{- toJson $roles -}}
{{- end -}}

{{/*
JSON of the secrets that a process reads: folder under /etc/xinstruct/secrets → Secret and items (key → file).
Takes (list $ name). Jobs read what the database and Kafka ask for, nothing else; a test what the services ask for.
*/}}
{{- define "xinstruct.secrets" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $v := $root.Values -}}
{{- $mounted := dict -}}
{{- if ne $name "test" -}}
{{- with $v.database.passwordSecret }}{{ if .name }}{{ $_ := set $mounted "database" (dict "secret" .name "items" (dict .key "password")) }}{{ end }}{{ end -}}
{{- with $v.database.caSecret }}{{ if .name }}{{ $_ := set $mounted "database-ca" (dict "secret" .name "items" (dict .key "ca.crt")) }}{{ end }}{{ end -}}
{{- if include "xinstruct.hasUser" . -}}
{{- with $v.kafkaClient.saslPasswordSecret }}{{ if .name }}{{ $_ := set $mounted "kafka-sasl" (dict "secret" (include "xinstruct.ofUser" (list $root $name .name)) "items" (dict .key "password")) }}{{ end }}{{ end -}}
{{- with $v.kafkaClient.certificateSecret }}{{ if .name }}{{ $_ := set $mounted "kafka-certificate" (dict "secret" (include "xinstruct.ofUser" (list $root $name .name)) "items" (dict .certificateKey "tls.crt" .privateKey "tls.key")) }}{{ end }}{{ end -}}
{{- end -}}
{{- with $v.kafkaClient.caSecret }}{{ if .name }}{{ $_ := set $mounted "kafka-ca" (dict "secret" .name "items" (dict .key "ca.crt")) }}{{ end }}{{ end -}}
{{- end -}}
{{- if ne $name "jobs" -}}
{{- $_ := set $mounted "token" (dict "secret" $v.tokenSecret.name "items" (dict $v.tokenSecret.key "token")) -}}
{{- if $v.tls.enabled -}}
{{- $_ := set $mounted "tls" (dict "secret" (include "xinstruct.tlsSecret" $root) "items" (dict "tls.crt" "tls.crt" "tls.key" "tls.key")) -}}
{{- with include "xinstruct.tlsAuthority" $root }}{{ $_ := set $mounted "tls-authority" (dict "secret" . "items" (dict $v.tls.mutual.authoritySecret.key "ca.crt")) }}{{ end -}}
{{- end -}}
{{- if ne $name "test" -}}
{{- with $v.objectStore.caSecret }}{{ if .name }}{{ $_ := set $mounted "object-store-ca" (dict "secret" .name "items" (dict .key "ca.crt")) }}{{ end }}{{ end -}}
{{- end -}}
{{- range $role, $secret := $v.inferenceKeySecrets -}}
{{- if and $secret.name (ne $name "test") }}{{ $_ := set $mounted (print "key-" $role) (dict "secret" $secret.name "items" (dict $secret.key "key")) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- toJson $mounted -}}
{{- end -}}
