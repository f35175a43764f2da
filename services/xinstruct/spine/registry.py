"""Which models there are, which one each role uses, and what the two scoring slots run. SQL, shared by four services.

A promotion affects what is decided after it; records name digests, so nothing of the past changes meaning.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa

from xinstruct.spine.errors import Invalid, NotFound, require
from xinstruct.spine.sql import METADATA, insert_new, transaction, upsert

ENDPOINT = "endpoint:"
"""What the location, and the digest, of a model behind an endpoint starts with; its name there follows."""
UNKNOWN_LICENCE = "other"
MODELS = sa.Table(
    "models", METADATA,
    sa.Column("model_digest", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("location", sa.Text, nullable=False),
    sa.Column("base_digest", sa.Text, nullable=False),
    sa.Column("licence", sa.Text, nullable=False),
    sa.Column("job_name", sa.Text, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("create_time_ms", sa.BigInteger, nullable=False),
    # JSON of an evaluator that was calibrated with its generator's drafts; see scoring/domain.py
    sa.Column("calibration", sa.Text, nullable=False, server_default=""),
)
PROMOTIONS = sa.Table(
    "promotions", METADATA,
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("promote_time_ms", sa.BigInteger, nullable=False),
)
SLOTS = sa.Table(
    "scoring_slots", METADATA,
    sa.Column("slot", sa.Text, primary_key=True),
    sa.Column("evaluator_digest", sa.Text, nullable=False),
    # JSON: partition → end offset of the pairs topic at the slot's start
    sa.Column("target_offsets", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class Model:
    """A registered model. `location`: a folder, or "endpoint:<name>" for a model that only its server holds."""

    model_digest: str
    role: str
    location: str
    base_digest: str = ""
    licence: str = UNKNOWN_LICENCE
    job_name: str = ""
    round: int = 0
    create_time_ms: int = 0
    calibration: str = ""


def register(engine: sa.Engine, model: Model) -> Model:
    """Add `model`; returns it as it is registered now.

    The same digest and role again changes its location, and tells what was not known of it; nothing else.
    """
    named = model.model_digest.startswith("sha256:") or model.location.startswith(ENDPOINT)
    require(named, "a model needs a digest, or a location that starts with endpoint:")
    with transaction(engine) as connection:
        insert_new(connection, MODELS, [asdict(model)], key=("model_digest", "role"))
        row = sa.and_(MODELS.c.model_digest == model.model_digest, MODELS.c.role == model.role)
        known = Model(**connection.execute(sa.select(MODELS).where(row)).mappings().one())
        made = known if known.job_name else model
        now = replace(
            known, location=model.location, base_digest=known.base_digest or model.base_digest,
            licence=model.licence if known.licence == UNKNOWN_LICENCE else known.licence,
            job_name=made.job_name, round=made.round, calibration=known.calibration or model.calibration,
        )
        connection.execute(sa.update(MODELS).where(row).values(**asdict(now)))
    return now


def get(engine: sa.Engine, role: str, digest: str) -> Model:
    """The model of `role` whose digest is or starts with `digest` (≥ 8 hex digits); NotFound, Invalid if ambiguous."""
    prefix = digest if digest.startswith(("sha256:", ENDPOINT)) else f"sha256:{digest}"
    matches = [model for model in models(engine, role) if model.model_digest.startswith(prefix)]
    if not matches:
        raise NotFound(f"no {role} model {digest!r}; `xinstruct models list` shows what there is")
    exact = [model for model in matches if model.model_digest == prefix]
    if not exact and (len(matches) > 1 or len(prefix) < len("sha256:") + 8):
        raise Invalid(f"{digest!r} could be {len(matches)} {role} models: give more digits (at least 8)")
    return (exact or matches)[0]


def models(engine: sa.Engine, role: str = "") -> list[Model]:
    """Models of `role` (all when empty), newest first."""
    query = sa.select(MODELS).order_by(MODELS.c.create_time_ms.desc(), MODELS.c.model_digest)
    if role:
        query = query.where(MODELS.c.role == role)
    with transaction(engine) as connection:
        return [Model(**row) for row in connection.execute(query).mappings()]


def promote(engine: sa.Engine, role: str, digest: str, *, now_ms: int) -> None:
    """Make a registered model its role's own; NotFound when it is not registered."""
    model = get(engine, role, digest)
    row = {"role": role, "model_digest": model.model_digest, "promote_time_ms": now_ms}
    with transaction(engine) as connection:
        upsert(connection, PROMOTIONS, [row], key=("role",))


def promoted(engine: sa.Engine, role: str) -> Model | None:
    """The role's model, None before the first promotion."""
    with transaction(engine) as connection:
        digest = connection.execute(
            sa.select(PROMOTIONS.c.model_digest).where(PROMOTIONS.c.role == role)
        ).scalar_one_or_none()
    return None if digest is None else get(engine, role, digest)


def slots(engine: sa.Engine) -> dict[str, tuple[str, str]]:
    """Slot ("a", "b") → (evaluator digest, JSON of the end offsets it has to pass); a resting slot is absent."""
    with transaction(engine) as connection:
        rows = connection.execute(sa.select(SLOTS)).all()
    return {row.slot: (row.evaluator_digest, row.target_offsets) for row in rows if row.evaluator_digest}
