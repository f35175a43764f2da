"""Settings of curation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xinstruct.spine.config import Settings


class DiversifySettings(Settings):
    """How the kept rows of a language are spread over its clusters. Provenance: x-instruction.md §2, "Diversification"."""

    mode: Literal["quota", "centroid"] = Field(
        "quota", description='"quota": up to cluster_quota a cluster by P(best); "centroid": one a cluster, the nearest.'
    )
    rows_per_language_max: int = Field(32_000, ge=1, description="Rows of a language in a release at most.")
    clusters_max: int = Field(1_000, ge=1, description="Clusters of a language at most.")
    rows_per_cluster_min: int = Field(8, ge=1, description="Mean rows a cluster at least: fewer rows, fewer clusters.")
    cluster_quota: int = Field(32, ge=1, description="Mean rows a cluster at most; small clusters give theirs to others.")
    cosine_max: float = Field(
        0.9, gt=0, le=1, description="Instructions of one cluster with a higher cosine count as near to each other."
    )
    near_instructions: Literal["defer", "drop"] = Field(
        "defer",
        description='What becomes of a row near to a better one: "defer" takes it only where the total would not be'
        ' reached, "drop" never.',
    )
    seed: int = Field(20_240_529, ge=0, description="Seed of k-means.")
    iterations_max: int = Field(50, ge=1, description="Steps of k-means at most.")


class CurationSettings(Settings):
    """What is kept, what is published, and how long things stay."""

    best_threshold: float = Field(0.5, ge=0, le=1, description="P(best) from which a pair labelled best is kept.")
    best_thresholds: dict[str, float] = Field(
        default_factory=dict, description="P(best) per language tag, in place of best_threshold."
    )
    duplicate_ratio: float = Field(
        0.7, gt=0, le=1, description="Share of equal signature values from which two documents are near-duplicates."
    )
    diversify: DiversifySettings = Field(default_factory=DiversifySettings, description="Spread over clusters.")
    encoder_model: str = Field("", description="Digest that embedding requests name; empty: the promoted encoder.")
    releases_location: str = Field("", description="Folder or fsspec URL of releases; empty: releases/ in the data folder.")
    reports_location: str = Field("", description="Folder of reports that takedowns look through; empty: reports/ in the data folder.")
    dataset_title: str = Field("Cross-lingual instructions", min_length=1, description="Title of the dataset card.")
    removal_contact: str = Field("", description="Address or URL printed in the card for removal requests; empty: none.")
    projection_records_max: int = Field(500, ge=1, le=10_000, description="Records projected in one SQL transaction.")
    body_retention_days: int = Field(30, ge=0, description="Days that a fetched body is kept; 0: until nothing refers to it.")
    orphan_grace_hours: int = Field(24, ge=0, description="Hours that a blob nobody refers to is left alone.")
    catch_up_s_max: float = Field(60.0, gt=0, description="Seconds that a publication waits for the projection at most.")

    def threshold(self, language: str) -> float:
        """P(best) from which a pair of `language` is kept."""
        return self.best_thresholds.get(language, self.best_threshold)
