"""What `helm test` runs: a pod that reads nothing but the token, and on demand a site that the crawler may fetch."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from charts.rendering import RELEASE, SERVICES, Manifest, Values, changed, manifests, merged, of_kind, profile

NAME = f"{RELEASE}-xinstruct-test"
SITE = f"{NAME}.lab.svc:8780"
PLAIN = profile("small")
INTRANET = {"crawl": {"privateTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}
WITH_SITE = changed(
    merged(profile("small"), {"tests": {"mainJob": {"enabled": True}}, "networkPolicy": INTRANET}),
    "config.crawler.fetch.private_hosts_allowed", ["intranet.example"],
)


def pod_of(values: Values) -> Manifest:
    (job,) = [item for item in of_kind(manifests(values), "Job") if item["metadata"]["name"] == NAME]
    return dict(job["spec"]["template"])



def config_of(values: Values, service: str) -> dict[str, Any]:
    found = [item for item in of_kind(manifests(values), "ConfigMap") if item["metadata"]["name"].endswith(service)]
    return dict(yaml.safe_load(found[0]["data"]["config.yaml"]))


@pytest.mark.parametrize("values", [PLAIN, WITH_SITE], ids=["services", "main job"])
def test_everything_of_the_test_is_a_hook_that_goes_when_it_has_ended(values: Values) -> None:
    ours = [item for item in manifests(values) if item["metadata"]["name"] == NAME and item["kind"] != "NetworkPolicy"]
    assert {item["kind"] for item in ours} >= {"ConfigMap", "Job"}
    for item in ours:
        annotations = item["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "test"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded,hook-failed"


@pytest.mark.parametrize("values", [PLAIN, WITH_SITE], ids=["services", "main job"])
def test_it_reads_the_token_and_no_other_secret(values: Values) -> None:
    pod = pod_of(values)["spec"]
    assert [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume] == ["xinstruct-token"]
    assert pod["automountServiceAccountToken"] is False
    for site in pod.get("initContainers", ()):
        assert [mount["name"] for mount in site["volumeMounts"]] == ["scratch"]


def test_it_asks_every_service_for_its_state_and_makes_nothing_unless_it_is_told_to() -> None:
    pod = pod_of(PLAIN)["spec"]
    assert pod["containers"][0]["args"] == ["-c", ". /test/services.sh"] and "initContainers" not in pod
    assert set(config_of(PLAIN, "-test")["addresses"]) == set(SERVICES)
    assert not [item for item in of_kind(manifests(PLAIN), "Service") if item["metadata"]["name"] == NAME]
    assert "private_hosts_allowed" not in yaml.safe_dump(config_of(PLAIN, "-crawler"))


def test_the_main_job_has_a_site_that_the_crawler_alone_may_fetch_from_beside_what_it_might_before() -> None:
    site = pod_of(WITH_SITE)["spec"]["initContainers"][0]
    assert site["restartPolicy"] == "Always" and f"--host={SITE.split(':')[0]}" in site["args"]
    (service,) = [item for item in of_kind(manifests(WITH_SITE), "Service") if item["metadata"]["name"] == NAME]
    labels = pod_of(WITH_SITE)["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= labels
    allowed = {name: config_of(WITH_SITE, f"-{name}")["crawler"]["fetch"]["private_hosts_allowed"] for name in SERVICES}
    assert allowed.pop("crawler") == ["intranet.example", SITE]
    assert set(map(tuple, allowed.values())) == {("intranet.example",)}
    crawler = f"{RELEASE}-xinstruct-crawler"
    (policy,) = [x for x in of_kind(manifests(WITH_SITE), "NetworkPolicy") if x["metadata"]["name"] == crawler]
    edges = [edge for edge in policy["spec"]["egress"] if edge["ports"] == [{"port": 8780}]]
    assert [edge["to"][0]["podSelector"]["matchLabels"].items() <= labels for edge in edges] == [True]


def test_it_ends_by_itself_a_while_after_its_longest_wait() -> None:
    (job,) = [x for x in of_kind(manifests(changed(WITH_SITE, "tests.mainJob.withinS", 7200)), "Job")
              if x["metadata"]["name"] == NAME]
    assert 7200 + 600 <= job["spec"]["activeDeadlineSeconds"] <= 7200 + 1800


def test_a_site_that_is_served_already_is_fetched_from_and_none_is_made() -> None:
    values = changed(WITH_SITE, "tests.mainJob.site", "site.elsewhere.svc:8780")
    assert "initContainers" not in pod_of(values)["spec"]
    assert config_of(values, "-crawler")["crawler"]["fetch"]["private_hosts_allowed"][-1] == "site.elsewhere.svc:8780"
    (config,) = [item for item in of_kind(manifests(values), "ConfigMap") if item["metadata"]["name"] == NAME]
    assert "http://site.elsewhere.svc:8780/sitemap.xml" in config["data"]["main-job.sh"]


@pytest.mark.parametrize("languages", ["sw;reboot", "", "sw, fi"])
def test_languages_are_tags_and_nothing_else(languages: str) -> None:
    with pytest.raises(Exception, match="languages"):
        manifests(changed(WITH_SITE, "tests.mainJob.languages", languages))
