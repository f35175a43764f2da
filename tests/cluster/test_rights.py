"""Scenario 6: what pods may not do. Restricted Pod Security, least RBAC, and no call without the token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.conftest import House
from cluster.house import CHART, FULL_NAME, RELEASE, SERVICES, Bed, namespace, probe, small
from cluster.kubectl import Cluster, Refused

GOLDEN = Path(__file__).parent / "golden"
ALL = {"config": {
    "inference": {"evaluator": {"kind": "kserve", "url": "http://judge-{slot}"}},
    "training": {"serving": {"evaluator": "judge-{slot}", "encoder": "near"}},
}, "trainingJobs": {"trainJob": "always"}}
"""Values with which training has every right that the chart gives."""
QUESTIONS = tuple(
    (verb, group, resource, name)
    for group, resource, name, verbs in (
        ("*", "*", "", "*"),
        ("batch", "jobs", "", "create get list watch delete patch"),
        ("trainer.kubeflow.org", "trainjobs", "", "create get list watch delete patch"),
        ("serving.kserve.io", "inferenceservices", "", "create get list patch delete"),
        ("serving.kserve.io", "inferenceservices", "judge-a", "get patch update delete"),
        ("serving.kserve.io", "inferenceservices", "judge-b", "patch"),
        ("serving.kserve.io", "inferenceservices", "near", "patch"),
        ("serving.kserve.io", "inferenceservices", "another", "get patch"),
        ("", "pods", "", "create get list watch delete"),
        ("", "pods/log", "", "get"),
        ("", "pods/exec", "", "create"),
        ("", "secrets", "", "create get list watch patch delete"),
        ("", "secrets", "xinstruct-token", "get"),
        ("", "configmaps", "", "create get list patch delete"),
        ("", "serviceaccounts/token", "", "create"),
        ("apps", "statefulsets", "", "get create patch delete"),
        ("rbac.authorization.k8s.io", "roles", "", "get create patch"),
        ("rbac.authorization.k8s.io", "rolebindings", "", "create"),
    )
    for verb in verbs.split()
)
"""(verb, API group, resource, name of one object or "" for any)."""

ASK = """
import grpc, json
from xinstruct.v1 import status_service_pb2 as messages, status_service_pb2_grpc as stubs

def answer(address):
    try:
        stub = stubs.StatusServiceStub(grpc.insecure_channel(address))
        stub.GetStatus(messages.GetStatusRequest(), metadata=metadata, timeout=20)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name

metadata = [("authorization", "Bearer " + {token!r})] if {token!r} else []
print(json.dumps({{name: answer(address) for name, address in {addresses!r}.items()}}))
"""

TRY = """
import json, ssl, urllib.request, urllib.error
from pathlib import Path
account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
context = ssl.create_default_context(cafile=str(account / "ca.crt"))
token, space = (account / "token").read_text(), (account / "namespace").read_text()
for method, path, body in json.loads({tries!r}):
    request = urllib.request.Request(
        "https://kubernetes.default.svc" + path.format(space=space), method=method,
        data=json.dumps(body).encode() if body else None,
        headers={{"Authorization": "Bearer " + token, "Content-Type": "application/json"}})
    try:
        print(urllib.request.urlopen(request, context=context, timeout=20).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("fault", ["root", "privileged", "capabilities", "hostPath", "hostNetwork"])
def test_a_pod_that_the_restricted_standard_forbids_is_refused(house: House, fault: str) -> None:
    pod = probe(f"bad-{fault.lower()}", house.bed, "print(1)")
    container = pod["spec"]["containers"][0]
    match fault:
        case "root":
            pod["spec"]["securityContext"] |= {"runAsNonRoot": False, "runAsUser": 0}
        case "privileged":
            container["securityContext"] |= {"privileged": True, "allowPrivilegeEscalation": True}
        case "capabilities":
            container["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"], "drop": ["ALL"]}
        case "hostPath":
            pod["spec"]["volumes"] = [{"name": "host", "hostPath": {"path": "/"}}]
        case _:
            pod["spec"]["hostNetwork"] = True
    with pytest.raises(Refused, match="violates PodSecurity"):
        house.inside.apply(pod)


def test_no_account_but_trainings_has_a_right_of_its_own(house: House) -> None:
    assert can_i(house.inside) == (GOLDEN / "can-i.txt").read_text("utf-8")


def test_training_may_make_trainjobs_and_patch_the_inference_services_that_it_was_told_and_no_other(
    accounts: Cluster,
) -> None:
    assert can_i(accounts) == (GOLDEN / "can-i-all.txt").read_text("utf-8")


@pytest.fixture(scope="module")
def accounts(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Accounts and roles of a release whose training has every right. Kubernetes answers for those of operators without
    the operators, and without a pod.
    """
    values = tmp_path_factory.mktemp("values") / "all.yaml"
    values.write_text(yaml.safe_dump(small(bed, ALL)), "utf-8")
    shown = [f"--show-only=templates/{name}.yaml" for name in ("serviceaccounts", "roles", "rolebindings")]
    with namespace(bed, claims=()) as inside:
        profile = CHART / "profiles" / "small.yaml"
        made = inside.helm("template", RELEASE, str(CHART), "-f", str(profile), "-f", str(values), *shown)
        inside.kubectl("apply", "-f", "-", stdin=made)
        yield inside


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "training"])
def test_only_training_holds_a_token_of_the_api(house: House, service: str) -> None:
    with pytest.raises(Refused, match="No such file or directory"):
        house.inside.kubectl(
            "exec", f"{FULL_NAME}-{service}-0", "--", "ls", "/var/run/secrets/kubernetes.io/serviceaccount"
        )


def test_training_may_make_a_job_and_nothing_else(house: House) -> None:
    job = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "try"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "none:1"}]}}},
    }
    tries: list[tuple[str, str, object, int]] = [
        ("POST", "/apis/batch/v1/namespaces/{space}/jobs?dryRun=All", job, 201),
        ("GET", "/api/v1/namespaces/{space}/pods", None, 200),
        ("GET", "/api/v1/namespaces/{space}/secrets", None, 403),
        ("GET", "/api/v1/namespaces/{space}/secrets/xinstruct-token", None, 403),
        ("DELETE", "/api/v1/namespaces/{space}/pods/none", None, 403),
        ("GET", "/apis/batch/v1/namespaces/default/jobs", None, 403),
        ("GET", "/api/v1/nodes", None, 403),
    ]
    code = TRY.format(tries=json.dumps([item[:3] for item in tries]))
    answered = house.inside.kubectl("exec", f"{FULL_NAME}-training-0", "--", "python", "-c", code)
    assert answered.split() == [str(item[3]) for item in tries]


@pytest.mark.parametrize("token", ["", "wrong"])
def test_no_service_answers_a_pod_without_the_token(house: House, token: str) -> None:
    assert answers(house, token) == dict.fromkeys(SERVICES, "UNAUTHENTICATED")


def test_every_service_answers_a_pod_with_the_token(house: House) -> None:
    token = house.inside.kubectl(
        "get", "secret", "xinstruct-token", "-o", "go-template={{.data.token | base64decode}}"
    )
    assert answers(house, token) == dict.fromkeys(SERVICES, "OK")


def answers(house: House, token: str) -> dict[str, str]:
    """Service → the status code that a pod of its own gets from it."""
    addresses = {name: f"{FULL_NAME}-{name}.{house.inside.namespace}.svc:7700" for name in SERVICES}
    succeeded, said = house.inside.output_of(probe("caller", house.bed, ASK.format(addresses=addresses, token=token)))
    assert succeeded, said
    return dict(json.loads(said))


def can_i(inside: Cluster) -> str:
    """What each service account of the release, and the namespace's default one, may do: a line a question."""
    accounts = [*(item["metadata"]["name"] for item in inside.all("serviceaccount"))]
    asked = [(account, *question) for account in sorted(accounts) for question in QUESTIONS]
    reviews = [_review(inside.namespace, *item) for item in asked]
    text = inside.kubectl("create", "-o", "yaml", "-f", "-", stdin=yaml.safe_dump_all(reviews))
    answers = list(yaml.safe_load_all(text))
    lines = [
        f"{account.removeprefix(f'{RELEASE}-')} {'yes' if review['status']['allowed'] else 'no'} {verb} "
        f"{resource}{f'.{group}' if group else ''}{f' {name}' if name else ''}\n"
        for (account, verb, group, resource, name), review in zip(asked, answers, strict=True)
    ]
    return "".join(lines)


def _review(space: str, account: str, verb: str, group: str, resource: str, name: str) -> dict[str, object]:
    """What `kubectl auth can-i VERB RESOURCE NAME --as ACCOUNT` sends."""
    plural, _, part = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": plural, "subresource": part, "name": name}
    account = f"system:serviceaccount:{space}:{account}"
    return {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": account, "resourceAttributes": {"namespace": space} | asked},
    }
