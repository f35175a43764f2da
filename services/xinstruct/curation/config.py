"""Settings of curation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from xinstruct.spine.config import LanguageTag, Settings


class DiversifySettings(Settings):
    """How the kept rows of a language are spread over its clusters. Defaults: docs/method.md."""

    mode: Literal["quota", "centroid"] = Field(
        default="quota",
        description='"quota": up to cluster_quota a cluster by P(best); "centroid": the nearest one of each.',
    )
    rows_per_language_max: int = Field(default=32_000, ge=1, description="Rows of a language in a release at most.")
    clusters_max: int = Field(default=1_000, ge=1, description="Clusters of a language at most.")
    rows_per_cluster_min: int = Field(
        default=8, ge=1, description="Mean rows a cluster at least: it limits the clusters."
    )
    cluster_quota: int = Field(
        default=32, ge=1, description="Mean rows a cluster at most; what small ones lack, others give."
    )
    cosine_max: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Instructions of one cluster with a higher cosine count as near to each other.",
    )
    near_instructions: Literal["defer", "drop"] = Field(
        default="defer",
        description='What becomes of a row near to a better one: "defer" takes it only where the total would not be'
        ' reached, "drop" never.',
    )
    seed: int = Field(default=20_240_529, ge=0, description="Seed of k-means.")
    iterations_max: int = Field(default=50, ge=1, description="Steps of k-means at most.")


class CurationSettings(Settings):
    """What is kept, what is published, and how long things stay."""

    best_threshold: float = Field(
        default=0.5, ge=0, le=1, description="P(best) from which a pair labelled best is kept."
    )
    best_thresholds: dict[LanguageTag, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="P(best) per language tag, in place of best_threshold."
    )
    reviewed_worst: Literal["drop", "keep"] = Field(
        default="drop",
        description='What becomes of a pair that half or more of its reviewers label worst: "drop" leaves it out of'
        ' later releases, for who reads a row knows more than the evaluator; "keep" only counts it in the card.',
    )
    duplicate_ratio: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="Share of equal signature values from which two documents are near-duplicates.",
    )
    diversify: DiversifySettings = Field(default=DiversifySettings(), description="Spread over clusters.")
    encoder_model: str = Field(
        default="", description="Digest that embedding requests name; empty: the promoted encoder."
    )
    releases_location: str = Field(
        default="", description="Folder or fsspec URL of releases; empty: releases/ in the data folder."
    )
    reports_location: str = Field(
        default="", description="Folder whose report.* files takedowns look through; empty: reports/ at home."
    )
    dataset_title: str = Field(
        default="Cross-lingual instructions", min_length=1, description="Title of the dataset card."
    )
    removal_contact: str = Field(
        default="", description="Address or URL in the card for removal requests; empty: none."
    )
    projection_records_max: int = Field(
        default=500, ge=1, le=10_000, description="Records projected in one SQL transaction."
    )
    body_retention_days: int = Field(
        default=90,
        ge=0,
        description="Days that `xinstruct gc` leaves a body; leave it out: it follows the crawler's fetch.",
    )
    orphan_grace_hours: int = Field(default=24, ge=0, description="Hours that a blob nobody refers to is left alone.")
    catch_up_s_max: float = Field(default=60.0, gt=0, description="Seconds that a publication waits for the catalog.")

    @field_validator("reports_location")
    @classmethod
    def _folder(cls, location: str) -> str:
        if "://" in location:
            raise ValueError(f"expected a folder, which takedowns look through, not a URL: {location!r}")
        return location

    def threshold(self, language: str) -> float:
        """P(best) from which a pair of `language` is kept."""
        return self.best_thresholds.get(language, self.best_threshold)
