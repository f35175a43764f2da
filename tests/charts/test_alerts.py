"""The alerts' expressions are PromQL, by a port of Prometheus's own grammar: functions, types, durations."""

from __future__ import annotations

import re

import promql_parser
import pytest

from charts.rendering import NAMESPACE, OPTIONAL_APIS, RELEASE, SERVICES, Values, changed, manifests, of_kind, profile


@pytest.mark.parametrize("values", [
    profile("small"),
    changed(profile("small"), "monitoring", {"standstillMinutes": 90, "rejectedRatioMax": 0.00001}),
], ids=["small", "other limits"])
def test_every_alert_asks_what_prometheus_understands(values: Values) -> None:
    (rules,) = of_kind(manifests(values, apis=OPTIONAL_APIS), "PrometheusRule")
    (group,) = rules["spec"]["groups"]
    assert len(group["rules"]) == 4
    for rule in group["rules"]:
        promql_parser.parse(rule["expr"])  # ValueError with the reason
        assert promql_parser.parse_duration(rule["for"])


def test_a_stage_that_commits_is_taken_out_of_those_that_have_lag_and_not_compared_with_them() -> None:
    (rules,) = of_kind(manifests(profile("small"), apis=OPTIONAL_APIS), "PrometheusRule")
    (alert,) = [rule for rule in rules["spec"]["groups"][0]["rules"] if rule["alert"] == "XinstructStageStandsStill"]
    whole = promql_parser.parse(alert["expr"])
    assert isinstance(whole, promql_parser.BinaryExpr) and str(whole.op) == "unless"


def test_every_alert_asks_for_the_pods_of_its_release_and_no_others() -> None:
    values = changed(profile("small"), "services.scoring-b.enabled", False)
    items = manifests(values, apis=OPTIONAL_APIS)
    ours = {f"{item['metadata']['name']}-{number}" for item in of_kind(items, "StatefulSet") for number in (0, 11)}
    others = {f"{name}-{service}-0" for name in ("house", "try", f"new-{RELEASE}-xinstruct") for service in SERVICES}
    (rules,) = of_kind(items, "PrometheusRule")
    for rule in rules["spec"]["groups"][0]["rules"]:
        selectors = re.findall(r"(xinstruct_\w+)\{(.*?)\}", rule["expr"])
        assert len(selectors) == len(re.findall(r"xinstruct_\w+", rule["expr"]))
        for _, labels in selectors:
            assert f'namespace="{NAMESPACE}"' in labels.split(",")
            (asked,) = re.findall(r'pod=~"(.*?)"', labels)
            found = {pod for pod in ours | others if re.fullmatch(asked, pod)}
            assert found == {pod for pod in ours if "-kafka-" not in pod and "-postgres-" not in pod}


@pytest.mark.parametrize("wrong", ["sum by stage (a)", "rate(a)", "increase(a[10q])", "unheard(a[1m])"])
def test_an_expression_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        promql_parser.parse(wrong)
