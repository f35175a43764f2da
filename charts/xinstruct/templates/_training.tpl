{{/* Training's own: where its jobs run, what it asks the Kubernetes API, and the manifest of a job. */}}

{{/* JSON of training's part of its configuration: jobs.kind, serving and so on, "{}" where training is off. Takes $. */}}
{{- define "xinstruct.training" -}}
{{- $services := include "xinstruct.services" . | fromJson -}}
{{- $part := dict -}}
{{- with $services.training -}}
{{- $merged := mustMergeOverwrite (deepCopy $.Values.config) (deepCopy (.config | default dict)) -}}
{{- $part = $merged.training | default dict -}}
{{- end -}}
{{- toJson $part -}}
{{- end -}}

{{/* "true" where jobs have pods of their own. Takes $. */}}
{{- define "xinstruct.jobsInPods" -}}
{{- if eq (include "xinstruct.training" . | fromJson | dig "jobs" "kind" "local") "kubernetes" }}true{{ end -}}
{{- end -}}

{{/* JSON of {"names": InferenceServices that training patches}. Takes $. */}}
{{- define "xinstruct.served" -}}
{{- $serving := include "xinstruct.training" . | fromJson | dig "serving" dict -}}
{{- $names := list -}}
{{- with $serving.evaluator }}{{ $names = list (replace "{slot}" "a" .) (replace "{slot}" "b" .) }}{{ end -}}
{{- with $serving.encoder }}{{ $names = append $names . }}{{ end -}}
{{- toJson (dict "names" $names) -}}
{{- end -}}

{{/* "true" where training asks the Kubernetes API for anything. Takes $. */}}
{{- define "xinstruct.asksKubernetes" -}}
{{- if or (include "xinstruct.jobsInPods" .) (include "xinstruct.served" . | fromJson).names }}true{{ end -}}
{{- end -}}

{{/* "true" where jobs are TrainJobs. Takes $. */}}
{{- define "xinstruct.trainJobs" -}}
{{- if include "xinstruct.jobsInPods" . -}}
{{- include "xinstruct.wanted" (list . .Values.trainingJobs.trainJob "trainer.kubeflow.org/v1alpha1") -}}
{{- end -}}
{{- end -}}

{{/* The object that training makes each job's of: it puts in a name, a label, an owner and the arguments. Takes $. */}}
{{- define "xinstruct.jobManifest" -}}
{{- $j := .Values.trainingJobs -}}
{{- $trainJob := include "xinstruct.trainJobs" . | eq "true" -}}
apiVersion: {{ $trainJob | ternary "trainer.kubeflow.org/v1alpha1" "batch/v1" }}
kind: {{ $trainJob | ternary "TrainJob" "Job" }}
metadata:
  name: {{ include "xinstruct.fullname" . }}
  labels:
    {{- include "xinstruct.podLabels" (list . "training-job" $j.labels) | nindent 4 }}
    app.kubernetes.io/managed-by: {{ include "xinstruct.fullname" . }}-training
  {{- $annotations := .Values.commonAnnotations | default dict }}
  {{- /* The Trainer has no time to live for TrainJobs: training deletes those that are over. */}}
  {{- if $trainJob }}{{ $annotations = merge (dict "xinstruct/ttl-s" (int64 $j.ttlS | toString)) $annotations }}{{ end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
{{- if $trainJob }}
  runtimeRef:
    apiGroup: trainer.kubeflow.org
    kind: TrainingRuntime
    name: {{ include "xinstruct.fullname" . }}-training
  trainer:
    numNodes: 1
{{- else }}
  ttlSecondsAfterFinished: {{ $j.ttlS | int64 }}
  {{- include "xinstruct.jobSpec" (list . "job") | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What a plain Job and the Job that the Trainer makes have in common. Takes (list $ name-of-the-container). */}}
{{- define "xinstruct.jobSpec" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $j := $root.Values.trainingJobs -}}
backoffLimit: {{ sub (include "xinstruct.training" $root | fromJson | dig "attempts_max" 3) 1 }}
# One pod at a time: two would write into one folder.
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    # Evicted, preempted, drained: it goes on elsewhere, from its checkpoint, as often as that happens.
    - action: Ignore
      onPodConditions:
        - {type: DisruptionTarget, status: "True"}
    # Killed by a signal (128 and its number): it may go better next time. Any other failure is a fault that would repeat.
    - action: FailJob
      onExitCodes:
        containerName: {{ $name }}
        operator: NotIn
        values: [132, 133, 134, 135, 136, 137, 139, 143]
template:
  metadata:
    labels:
      {{- include "xinstruct.podLabels" (list $root "training-job" $j.podLabels) | nindent 6 }}
    {{- with $j.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    restartPolicy: Never
    automountServiceAccountToken: false
    enableServiceLinks: false
    # Nothing to wait for: what is not in a checkpoint is done again.
    terminationGracePeriodSeconds: 5
    securityContext:
      {{- include "xinstruct.podSecurity" $root | nindent 6 }}
    {{- with include "xinstruct.scheduling" (list $root $j) | trim }}{{ . | nindent 4 }}{{ end }}
    containers:
      - name: {{ $name }}
        image: {{ include "xinstruct.image" (list $root "model") }}
        imagePullPolicy: {{ $root.Values.imagePullPolicy }}
        command: [python, -m, xinstruct.training.job_pod]
        env:
          - name: HOME
            value: /tmp
        # The end of what it said is told as the reason of a failure.
        terminationMessagePolicy: FallbackToLogsOnError
        resources:
          {{- toYaml $j.resources | nindent 10 }}
        securityContext:
          {{- include "xinstruct.containerSecurity" $root | nindent 10 }}
        volumeMounts:
          # Where training has it: files are named by their paths.
          - name: data
            mountPath: /var/lib/xinstruct
          - name: scratch
            mountPath: /tmp
    volumes:
      - name: data
        persistentVolumeClaim:
          claimName: {{ include "xinstruct.claim" $root }}
      - name: scratch
        emptyDir:
          sizeLimit: {{ $j.scratchSize }}
{{- end -}}
