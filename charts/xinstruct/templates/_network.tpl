{{/* Edges of the network that follow from configurations. */}}

{{/* YAML of the rule by which every pod looks up names. Takes $. */}}
{{- define "xinstruct.dnsEdge" -}}
{{- with .Values.networkPolicy.dns -}}
- ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* YAML of the rules of log and database, which every service and Job reaches. Takes $. */}}
{{- define "xinstruct.stateEdges" -}}
{{- $p := .Values.networkPolicy -}}
{{- if .Values.kafka.enabled -}}
- to:
    - podSelector: {matchLabels: {{ include "xinstruct.selector" (list . "kafka") | fromYaml | toJson }}}
  ports: [{port: 9092}]
{{- else -}}
{{- include "xinstruct.edge" (list $p.kafka (list (.Values.config.log | default dict).bootstrap_servers)) }}
{{- end }}
{{- if .Values.postgres.enabled }}
- to:
    - podSelector: {matchLabels: {{ include "xinstruct.selector" (list . "postgres") | fromYaml | toJson }}}
  ports: [{port: 5432}]
{{- else }}
{{ include "xinstruct.edge" (list $p.database (list .Values.config.database_url)) }}
{{- end }}
{{- end -}}

{{/* YAML of the rules of what one service reaches beside log and database. Takes (list $ name configuration). */}}
{{- define "xinstruct.ownEdges" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $config := index . 2 -}}
{{- $p := $root.Values.networkPolicy -}}
{{- $endpoint := $root.Values.objectStore.endpointUrl -}}
{{- if or $endpoint (include "xinstruct.storesAway" $config) }}
{{ include "xinstruct.edge" (list $p.objectStore (list ($endpoint | default "https://"))) }}
{{- end }}
{{- with dig "telemetry" "traces_endpoint" "" $config }}
{{ include "xinstruct.edge" (list $p.traces (list .)) }}
{{- end }}
{{- $asked := list -}}
{{- range $role, $where := $config.inference -}}
{{- if kindIs "map" $where }}{{ with $where.url }}{{ $asked = append $asked . }}{{ end }}{{ end -}}
{{- end -}}
{{- /* The crawler asks no model. */ -}}
{{- if and $asked (ne $name "crawler") }}
{{ include "xinstruct.edge" (list $p.inference $asked) }}
{{- end }}
{{- if and (eq $name "training") (include "xinstruct.asksKubernetes" $root) }}
{{ include "xinstruct.edge" (list $p.kubernetesApi list) }}
{{- end }}
{{- if eq $name "crawler" }}
{{ include "xinstruct.crawlEdges" (list $root $config) }}
{{- end }}
{{- end -}}

{{/* YAML of the rules of what is crawled. Takes (list $ configuration-of-the-crawler). */}}
{{- define "xinstruct.crawlEdges" -}}
{{- $root := index . 0 -}}
{{- $crawl := $root.Values.networkPolicy.crawl -}}
# The public internet: what the crawler refuses by itself (private addresses) is refused here as well.
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16/32, 169.254.0.0/16, 172.16.0.0/12,
          192.0.0.0/24, 192.168.0.0/16, 224.0.0.0/3]
    - ipBlock:
        cidr: "::/0"
        except: ["::1/128", "fc00::/7", "fe80::/10", "ff00::/8"]
  ports:
    {{- range $crawl.ports }}
    - {port: {{ . }}}
    {{- end }}
{{- if $crawl.privateTo }}
{{ include "xinstruct.edge" (list (dict "to" $crawl.privateTo "ports" $crawl.privatePorts) (index . 1 | dig "crawler" "fetch" "private_hosts_allowed" list)) }}
{{- end }}
{{- if include "xinstruct.ownSite" $root }}
- to:
    - podSelector: {matchLabels: {{ include "xinstruct.selector" (list $root "test") | fromYaml | toJson }}}
  ports: [{port: 8780}]
{{- end }}
{{- end -}}

{{/* "true" where a configuration names a place in an object store. Takes the configuration. */}}
{{- define "xinstruct.storesAway" -}}
{{- $places := list .blobs_url (dig "curation" "releases_location" "" .) (dig "training" "seeds_location" "" .) -}}
{{- range $places -}}
{{- if and (contains "://" (. | default "")) (not (regexMatch "^(file|local|memory)://" .)) }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/*
One rule of traffic: to peers (none: any address), on the ports that the values say and those that addresses have in
them. Takes (list value-of-networkPolicy addresses).
*/}}
{{- define "xinstruct.edge" -}}
{{- $edge := index . 0 -}}
{{- $ports := list -}}
{{- range concat $edge.ports (include "xinstruct.portsIn" (index . 1) | fromJsonArray) -}}
{{- $ports = append $ports (int .) -}}
{{- end -}}
- ports:
    {{- range $ports | uniq }}
    - {port: {{ . }}}
    {{- end }}
  {{- with $edge.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/*
JSON of the ports in addresses: "host:port", several with commas between them, or a URL, whose scheme stands for a port
that is left out. Takes the list of addresses.
*/}}
{{- define "xinstruct.portsIn" -}}
{{- $own := dict "http" 80 "https" 443 "postgresql" 5432 -}}
{{- $ports := list -}}
{{- range . -}}
{{- $written := regexFindAll ":[0-9]+([/?,&]|$)|[?&]port=[0-9,]+" (. | default "") -1 -}}
{{- range $written }}{{ range regexFindAll "[0-9]+" . -1 }}{{ $ports = append $ports (int .) }}{{ end }}{{ end -}}
{{- if not $written }}{{ with get $own (regexFind "^[a-z]+" (. | default "")) }}{{ $ports = append $ports . }}{{ end }}{{ end -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}
