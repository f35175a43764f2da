"""Which values a template reads: the finder that other tests of values rest on."""

from __future__ import annotations

import pytest

from charts.reads import values_read


@pytest.mark.parametrize(("template", "read_path"), [
    ("{{ .Values.kafka.enabled }}", "kafka.enabled"),
    ("{{ $.Values.kafka.enabled }}{{ $root.Values.kafka.enabled }}", "kafka.enabled"),
    ("{{- with .Values.kafka }}{{ if .heap }}a{{ end }}{{ end }}{{ .other }}", "kafka kafka.heap"),
    ("{{- with $v.kafka -}}{{ .a }}{{ else }}{{ .b }}{{- end -}}", "kafka kafka.a"),
    ("{{ $own := $v.kafka | default dict }}{{ with $own.a }}{{ .b }}{{ end }}", "kafka kafka.a kafka.a.b"),
    ("{{ with .Values.kafka }}{{ with .a }}{{ .b }}{{ end }}{{ .c }}{{ end }}", "kafka kafka.a kafka.a.b kafka.c"),
    ("{{ with .Values.kafka }}{{ range .a }}{{ .b }}{{ end }}{{ end }}", "kafka kafka.a"),
    ('{{ with .Values.kafka }}{{ printf ".a" }}{{ $.Release.Name }}{{ (index . 1).b }}{{ end }}', "kafka"),
    ('{{/* Takes $m. */}}{{ define "one" }}{{ .replicas }}{{ end }}', "defaults.replicas"),
])
def test_what_a_template_reads_is_found_below_with_and_variables_too(template: str, read_path: str) -> None:
    assert sorted({".".join(path) for path in values_read(template)}) == sorted(read_path.split())
