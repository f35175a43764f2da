{{/* What differs between servers: image, command, arguments, paths of health and metrics. */}}

{{/*
YAML of one server: image (name in images), command, args, health, live, metrics (path; none where it has no metrics),
queue (name of the metric that counts waiting requests). The model's folder is /mnt/models. Takes $m.
*/}}
{{- define "inference.runtime" -}}
{{- if eq .runtime "predictor" -}}
image: model
command: [python, -m, xinstruct.predictor]
{{- /* REST ends first, and then gRPC; before them comes preStop (2 s, see below), after them a second to leave. */}}
args: [--role, {{ .role }}, --model-dir, /mnt/models, --http-port, "8080", --grpc-port, "8081", --drain-s, {{ div (sub .graceS 3) 2 | quote }}{{ if .promoted }}, --await-model{{ end }}]
health: /v2/health/ready
live: /v2/health/live
metrics: /metrics
queue: xinstruct_predictor_waiting_rows
{{- else if eq .runtime "vllm" -}}
image: vllm
command: [vllm, serve, /mnt/models]
args: [--host, 0.0.0.0, --port, "8080", --served-model-name, {{ .servedName }}]
health: /health
live: /health
metrics: /metrics
queue: vllm:num_requests_waiting
{{- else if eq .runtime "tgi" -}}
image: tgi
command: [text-generation-launcher]
# An evaluator's labels are read among the top tokens: 5, the default, may leave one out.
args: [--model-id, /mnt/models, --hostname, 0.0.0.0, --port, "8080", --max-top-n-tokens, "20"]
health: /health
live: /health
metrics: /metrics
queue: tgi_queue_size
{{- else -}}
image: model
# `transformers serve`: the image has the library, and none of the commands that libraries install.
command: [python, -m, transformers.cli.transformers, serve, /mnt/models]
args: [--device, cpu, --host, 0.0.0.0, --port, "8080"]
health: /health
live: /health
{{- end -}}
{{- end -}}

{{/*
The server's container, but for its resources and the model's own digest. Takes (list $ name-of-the-container $m).
*/}}
{{- define "inference.container" -}}
{{- $root := index . 0 -}}
{{- $m := index . 2 -}}
{{- $runtime := include "inference.runtime" $m | fromYaml -}}
name: {{ index . 1 }}
image: {{ include "inference.image" (list $root $runtime.image) }}
imagePullPolicy: {{ $root.Values.imagePullPolicy }}
command: {{ $m.command | default $runtime.command | toJson }}
args: {{ concat $runtime.args $m.args | toJson }}
env:
  # Caches and compiled kernels go there; the root file system is read-only.
  - name: HOME
    value: /tmp
  # Libraries ask who they run as, and /etc/passwd of an image of somebody else does not know the numeric user.
  - name: USER
    value: xinstruct
  - name: LOGNAME
    value: xinstruct
  - name: HF_HOME
    value: /tmp/huggingface
  # No hub is asked, at start or later, and nobody is told that a server runs.
  - name: HF_HUB_OFFLINE
    value: "1"
  - name: HF_HUB_DISABLE_TELEMETRY
    value: "1"
  - name: DO_NOT_TRACK
    value: "1"
  {{- if eq $m.runtime "openai" }}
  # It lists the models of this folder, and answers no question when there is no such folder.
  - name: HF_HUB_CACHE
    value: /tmp
  {{- end }}
  {{- if eq $m.runtime "tgi" }}
  - name: USAGE_STATS
    value: "off"
  - name: HUGGINGFACE_HUB_CACHE
    value: /tmp/huggingface
  {{- end }}
ports:
  - name: http
    containerPort: 8080
    protocol: TCP
  {{- if eq $m.runtime "predictor" }}
  - name: grpc
    containerPort: 8081
    protocol: TCP
  {{- end }}
# Loading takes as long as it takes; then an answer within seconds, or no more questions.
startupProbe:
  httpGet: {path: {{ $runtime.health }}, port: 8080}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (add $m.startupS 4) 5 }}
livenessProbe:
  httpGet: {path: {{ $runtime.live }}, port: 8080}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 8
readinessProbe:
  httpGet: {path: {{ $runtime.health }}, port: 8080}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
lifecycle:
  preStop:
    # Callers find another pod before this one refuses them.
    sleep: {seconds: 2}
securityContext:
  {{- include "inference.containerSecurity" $root | nindent 2 }}
volumeMounts:
  {{- include "inference.mounts" $m | nindent 2 }}
{{- end -}}

{{/* Arguments that name the model, which promotion may change: JSON. Takes $m. */}}
{{- define "inference.modelArgs" -}}
{{- if and (eq .runtime "predictor") .modelDigest }}{{ list "--model-digest" .modelDigest | toJson }}{{ else }}[]{{ end -}}
{{- end -}}
