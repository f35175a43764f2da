"""Names and checks of training jobs."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from builders import training_request
from xinstruct.spine.errors import Invalid
from xinstruct.training.config import TrainingSettings
from xinstruct.training.domain import JobSpec, checked, job_name_of

BASE, SEEDS = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def name(**changes: object) -> str:
    return job_name_of(training_request(**changes), base_digest=BASE, seeds_digest=SEEDS)


def test_a_command_submitted_twice_names_one_job() -> None:
    assert name(request_id="a", request_time_ms=1) == name(request_id="b", request_time_ms=2, promote_when_done=True)


@pytest.mark.parametrize("change", [
    {"role": "generator"}, {"round": 7}, {"recipe": '{"epochs": 9}'}, {"languages": ("fi",)},
    {"evaluator_digest": "sha256:" + "9" * 64}, {"generator_digest": "sha256:" + "9" * 64},
])
def test_whatever_changes_the_weights_changes_the_name(change: dict[str, object]) -> None:
    assert name(**change) != name()


def test_the_name_follows_from_content_and_not_from_where_it_lies() -> None:
    assert name(base_model="/a", seeds_location="/b") == name(base_model="/c", seeds_location="/d")
    request = training_request()
    assert job_name_of(request, base_digest=BASE, seeds_digest=BASE) != name()


def test_the_spelling_of_the_recipe_does_not_matter() -> None:
    assert name(recipe='{"seed": 1, "epochs": 2}') == name(recipe='{"epochs":2,"seed":1}')


def test_a_name_is_a_valid_kubernetes_label() -> None:
    made = name()
    assert len(made) <= 63 and made.replace("-", "").isalnum() and made == made.lower()


@pytest.mark.parametrize(("change", "message"), [
    ({"request_id": ""}, "request_id"),
    ({"role": "poet"}, "generator, evaluator"),
    ({"base_model": ""}, "training.base_model"),
    ({"seeds_location": ""}, "training.seeds_location"),
    ({"round": 1, "evaluator_digest": ""}, "needs an evaluator"),
])
def test_a_command_that_cannot_be_trained_is_refused_with_what_to_do(change: dict[str, object], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        checked(replace(training_request(), **change))  # type: ignore[arg-type]


def test_languages_are_kept_once_and_in_order() -> None:
    assert checked(training_request(languages=("ur", "fi", "ur"))).languages == ("fi", "ur")


def test_a_job_spec_survives_its_file() -> None:
    spec = JobSpec("n", "generator", 0, "/base", "", "/rows", "/work", {"epochs": 2.0, "seed": 3})
    assert JobSpec.from_json(spec.to_json()) == spec


def test_a_recipe_is_the_configured_one_with_changes_over_it() -> None:
    settings = TrainingSettings()
    assert '"epochs": 5.0' in settings.recipe_of("generator", '{"epochs": 5}')
    assert settings.recipe_of("generator", "") == settings.recipe_of("generator", "{}")


@pytest.mark.parametrize("changes", ["[1]", "{", '{"epochs": "many"}', '{"epoch": 2}', '{"epochs": -1}', "7"])
def test_what_is_no_recipe_is_refused(changes: str) -> None:
    with pytest.raises(Invalid, match="not a recipe"):
        TrainingSettings().recipe_of("generator", changes)


@pytest.mark.parametrize("changes", ["", '{"rows_at_once": 0}', '{"rows_at_once": 8}'])
def test_a_recipe_of_before_there_was_rows_at_once_still_names_the_same_job(changes: str) -> None:
    recipe = TrainingSettings().recipe_of("generator", changes)
    assert hashlib.sha256(recipe.encode()).hexdigest()[:16] == "5b67cc8e4f64a63c"
    assert name(role="generator", recipe=recipe) == "generator-r1-118983b96add"


def test_fewer_rows_at_once_name_another_job() -> None:
    fewer = TrainingSettings().recipe_of("generator", '{"rows_at_once": 2}')
    assert name(recipe=fewer) != name(recipe=TrainingSettings().recipe_of("generator", ""))


@pytest.mark.parametrize(("changes", "message"), [
    ('{"rows_at_once": 3}', "must divide rows_per_batch, which is 8"),
    ('{"rows_at_once": 16}', "must divide rows_per_batch, which is 8"),
    ('{"lora_rank": 16}', "set optimizer to adamw"),
])
def test_a_recipe_that_could_not_be_followed_is_refused_with_what_to_do(changes: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        TrainingSettings().recipe_of("generator", changes)
