"""initial schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None


def upgrade() -> None:
    op.create_table('answers',
    sa.Column('request_digest', sa.Text(), nullable=False),
    sa.Column('subject', sa.Text(), nullable=False),
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('answer', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('request_digest', name=op.f('pk_answers'))
    )
    op.create_index(op.f('ix_answers_subject'), 'answers', ['subject'], unique=False)
    op.create_table('crawler_bodies',
    sa.Column('body_digest', sa.Text(), nullable=False),
    sa.Column('store_time_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('body_digest', name=op.f('pk_crawler_bodies'))
    )
    op.create_index(op.f('ix_crawler_bodies_store_time_ms'), 'crawler_bodies', ['store_time_ms'], unique=False)
    op.create_table('crawler_claims',
    sa.Column('fetch_id', sa.Text(), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('fetch_id', name=op.f('pk_crawler_claims'))
    )
    op.create_table('crawler_counters',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('value', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_crawler_counters'))
    )
    op.create_table('crawler_hosts',
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('robots_status', sa.Integer(), nullable=False),
    sa.Column('robots_text', sa.Text(), nullable=False),
    sa.Column('tdmrep_text', sa.Text(), nullable=False),
    sa.Column('rules_until_ms', sa.BigInteger(), nullable=False),
    sa.Column('next_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('lease_owner', sa.Text(), nullable=False),
    sa.Column('lease_until_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('host', name=op.f('pk_crawler_hosts'))
    )
    op.create_table('crawler_outbox',
    sa.Column('sequence', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('topic', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('record_id', sa.Text(), nullable=False),
    sa.Column('value', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('sequence', name=op.f('pk_crawler_outbox'))
    )
    op.create_table('crawler_pages',
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('source_id', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('depth', sa.Integer(), nullable=False),
    sa.Column('hops', sa.Integer(), nullable=False),
    sa.Column('due_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('fetch_number', sa.Integer(), nullable=False),
    sa.Column('etag', sa.Text(), nullable=False),
    sa.Column('last_modified', sa.Text(), nullable=False),
    sa.Column('body_digest', sa.Text(), nullable=False),
    sa.Column('body_bytes', sa.BigInteger(), nullable=False),
    sa.Column('moved_to', sa.Text(), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=False),
    sa.Column('fetch_time_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('url', name=op.f('pk_crawler_pages'))
    )
    op.create_index(op.f('ix_crawler_pages_due_time_ms'), 'crawler_pages', ['due_time_ms'], unique=False)
    op.create_index(op.f('ix_crawler_pages_source_id_due_time_ms'), 'crawler_pages', ['source_id', 'due_time_ms'], unique=False)
    op.create_table('crawler_positions',
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('next_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('partition', name=op.f('pk_crawler_positions'))
    )
    op.create_table('crawler_requests',
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('request_id', name=op.f('pk_crawler_requests'))
    )
    op.create_table('crawler_sources',
    sa.Column('source_id', sa.Text(), nullable=False),
    sa.Column('kind', sa.Integer(), nullable=False),
    sa.Column('location', sa.Text(), nullable=False),
    sa.Column('hosts', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('pages_max', sa.Integer(), nullable=False),
    sa.Column('depth_max', sa.Integer(), nullable=False),
    sa.Column('text_field', sa.Text(), nullable=False),
    sa.Column('url_field', sa.Text(), nullable=False),
    sa.Column('licence', sa.Text(), nullable=False),
    sa.Column('declared_language', sa.Text(), nullable=False),
    sa.Column('poll_interval_s', sa.Integer(), nullable=False),
    sa.Column('pages_known', sa.Integer(), nullable=False),
    sa.Column('pages_fetched', sa.Integer(), nullable=False),
    sa.Column('pages_failed', sa.Integer(), nullable=False),
    sa.Column('pages_denied', sa.Integer(), nullable=False),
    sa.Column('rows_done', sa.BigInteger(), nullable=False),
    sa.Column('position', sa.BigInteger(), nullable=False),
    sa.Column('due_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('last_error', sa.Text(), nullable=False),
    sa.Column('change_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('change_number', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('source_id', name=op.f('pk_crawler_sources'))
    )
    op.create_table('dead_letters',
    sa.Column('dead_letter_id', sa.Text(), nullable=False),
    sa.Column('stage', sa.Text(), nullable=False),
    sa.Column('stage_version', sa.Text(), nullable=False),
    sa.Column('input_topic', sa.Text(), nullable=False),
    sa.Column('input_id', sa.Text(), nullable=False),
    sa.Column('input_key', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.Column('attempts_count', sa.BigInteger(), nullable=False),
    sa.Column('input_digest', sa.Text(), nullable=False),
    sa.Column('input_partition', sa.BigInteger(), nullable=False),
    sa.Column('input_offset', sa.BigInteger(), nullable=False),
    sa.Column('log_partition', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('dead_letter_id', name=op.f('pk_dead_letters'))
    )
    op.create_index('ix_dead_letters_input_id', 'dead_letters', ['input_id'], unique=False)
    op.create_index('ix_dead_letters_input_key', 'dead_letters', ['input_key'], unique=False)
    op.create_index('ix_dead_letters_stage', 'dead_letters', ['stage'], unique=False)
    op.create_table('documents',
    sa.Column('document_id', sa.Text(), nullable=False),
    sa.Column('page_id', sa.Text(), nullable=False),
    sa.Column('body_digest', sa.Text(), nullable=False),
    sa.Column('ordinal', sa.BigInteger(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('language', sa.Text(), nullable=False),
    sa.Column('language_script', sa.Text(), nullable=False),
    sa.Column('language_confidence_ratio', sa.Double(), nullable=True),
    sa.Column('licence', sa.Text(), nullable=False),
    sa.Column('signature', sa.LargeBinary(), nullable=False),
    sa.Column('text_digest', sa.Text(), nullable=False),
    sa.Column('fetch_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('masked_count', sa.BigInteger(), nullable=False),
    sa.Column('title', sa.Text(), nullable=False),
    sa.Column('source_id', sa.Text(), nullable=False),
    sa.Column('log_partition', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('document_id', name=op.f('pk_documents'))
    )
    op.create_index('ix_documents_body_digest', 'documents', ['body_digest'], unique=False)
    op.create_index('ix_documents_host', 'documents', ['host'], unique=False)
    op.create_index('ix_documents_language', 'documents', ['language'], unique=False)
    op.create_index('ix_documents_page_id', 'documents', ['page_id'], unique=False)
    op.create_index('ix_documents_text_digest', 'documents', ['text_digest'], unique=False)
    op.create_index('ix_documents_url', 'documents', ['url'], unique=False)
    op.create_table('drops',
    sa.Column('drop_id', sa.Text(), nullable=False),
    sa.Column('stage', sa.Text(), nullable=False),
    sa.Column('stage_version', sa.Text(), nullable=False),
    sa.Column('subject_id', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('evidence', sa.Text(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('language', sa.Text(), nullable=False),
    sa.Column('ordinal', sa.BigInteger(), nullable=False),
    sa.Column('log_partition', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('drop_id', name=op.f('pk_drops'))
    )
    op.create_index('ix_drops_stage', 'drops', ['stage'], unique=False)
    op.create_index('ix_drops_subject_id', 'drops', ['subject_id'], unique=False)
    op.create_index('ix_drops_url', 'drops', ['url'], unique=False)
    op.create_table('erasures',
    sa.Column('subject_id', sa.Text(), nullable=False),
    sa.Column('until_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('page_id', sa.Text(), nullable=False),
    sa.Column('document_id', sa.Text(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('text_digest', sa.Text(), nullable=False),
    sa.Column('body_digest', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('subject_id', name=op.f('pk_erasures'))
    )
    op.create_index(op.f('ix_erasures_document_id'), 'erasures', ['document_id'], unique=False)
    op.create_index(op.f('ix_erasures_host'), 'erasures', ['host'], unique=False)
    op.create_index(op.f('ix_erasures_page_id'), 'erasures', ['page_id'], unique=False)
    op.create_index(op.f('ix_erasures_url'), 'erasures', ['url'], unique=False)
    op.create_table('models',
    sa.Column('model_digest', sa.Text(), nullable=False),
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('location', sa.Text(), nullable=False),
    sa.Column('base_digest', sa.Text(), nullable=False),
    sa.Column('licence', sa.Text(), nullable=False),
    sa.Column('job_name', sa.Text(), nullable=False),
    sa.Column('round', sa.Integer(), nullable=False),
    sa.Column('create_time_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('model_digest', 'role', name=op.f('pk_models'))
    )
    op.create_table('pages',
    sa.Column('fetch_id', sa.Text(), nullable=False),
    sa.Column('page_id', sa.Text(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('source_id', sa.Text(), nullable=False),
    sa.Column('fetch_number', sa.BigInteger(), nullable=False),
    sa.Column('status', sa.BigInteger(), nullable=False),
    sa.Column('failure', sa.Text(), nullable=False),
    sa.Column('content_type', sa.Text(), nullable=False),
    sa.Column('body_digest', sa.Text(), nullable=False),
    sa.Column('body_bytes', sa.BigInteger(), nullable=False),
    sa.Column('fetch_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('opt_outs', sa.Text(), nullable=False),
    sa.Column('policy_version', sa.Text(), nullable=False),
    sa.Column('superseded_body_digest', sa.Text(), nullable=False),
    sa.Column('declared_language', sa.Text(), nullable=False),
    sa.Column('licence', sa.Text(), nullable=False),
    sa.Column('content_encoding_text', sa.Text(), nullable=False),
    sa.Column('log_partition', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('fetch_id', name=op.f('pk_pages'))
    )
    op.create_index('ix_pages_body_digest', 'pages', ['body_digest'], unique=False)
    op.create_index('ix_pages_host', 'pages', ['host'], unique=False)
    op.create_index('ix_pages_page_id', 'pages', ['page_id'], unique=False)
    op.create_index('ix_pages_url', 'pages', ['url'], unique=False)
    op.create_table('pairs',
    sa.Column('pair_id', sa.Text(), nullable=False),
    sa.Column('document_id', sa.Text(), nullable=False),
    sa.Column('page_id', sa.Text(), nullable=False),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('instruction', sa.Text(), nullable=False),
    sa.Column('response', sa.Text(), nullable=False),
    sa.Column('language', sa.Text(), nullable=False),
    sa.Column('language_script', sa.Text(), nullable=False),
    sa.Column('licence', sa.Text(), nullable=False),
    sa.Column('generator_digest', sa.Text(), nullable=False),
    sa.Column('prompt_version', sa.Text(), nullable=False),
    sa.Column('decoding', sa.Text(), nullable=False),
    sa.Column('mean_log_probability', sa.Double(), nullable=True),
    sa.Column('fetch_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('ordinal', sa.BigInteger(), nullable=False),
    sa.Column('log_partition', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('pair_id', name=op.f('pk_pairs'))
    )
    op.create_index('ix_pairs_document_id', 'pairs', ['document_id'], unique=False)
    op.create_index('ix_pairs_generator_digest', 'pairs', ['generator_digest'], unique=False)
    op.create_index('ix_pairs_host', 'pairs', ['host'], unique=False)
    op.create_index('ix_pairs_page_id', 'pairs', ['page_id'], unique=False)
    op.create_index('ix_pairs_url', 'pairs', ['url'], unique=False)
    op.create_table('projection_offsets',
    sa.Column('topic', sa.Text(), nullable=False),
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('next_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('topic', 'partition', name=op.f('pk_projection_offsets'))
    )
    op.create_table('promotions',
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('model_digest', sa.Text(), nullable=False),
    sa.Column('promote_time_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('role', name=op.f('pk_promotions'))
    )
    op.create_table('release_requests',
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('publish_time_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('request_id', name=op.f('pk_release_requests')),
    sa.UniqueConstraint('name', name=op.f('uq_release_requests_name'))
    )
    op.create_table('release_rows',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('pair_id', sa.Text(), nullable=False),
    sa.Column('document_id', sa.Text(), nullable=False),
    sa.Column('language', sa.Text(), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=False),
    sa.Column('cluster', sa.Integer(), nullable=False),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('name', 'pair_id', name=op.f('pk_release_rows'))
    )
    op.create_index('ix_release_rows_document_id', 'release_rows', ['document_id'], unique=False)
    op.create_index('ix_release_rows_pair_id', 'release_rows', ['pair_id'], unique=False)
    op.create_table('releases',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('manifest_digest', sa.Text(), nullable=False),
    sa.Column('location', sa.Text(), nullable=False),
    sa.Column('pairs_count', sa.BigInteger(), nullable=False),
    sa.Column('generator_digest', sa.Text(), nullable=False),
    sa.Column('evaluator_digest', sa.Text(), nullable=False),
    sa.Column('publish_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('log_partition', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_releases'))
    )
    op.create_index('ix_releases_request_id', 'releases', ['request_id'], unique=False)
    op.create_table('reviews',
    sa.Column('review_id', sa.Text(), nullable=False),
    sa.Column('pair_id', sa.Text(), nullable=False),
    sa.Column('reviewer', sa.Text(), nullable=False),
    sa.Column('label', sa.Text(), nullable=False),
    sa.Column('tags', sa.Text(), nullable=False),
    sa.Column('review_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('log_partition', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('review_id', name=op.f('pk_reviews'))
    )
    op.create_index('ix_reviews_pair_id', 'reviews', ['pair_id'], unique=False)
    op.create_table('scores',
    sa.Column('score_id', sa.Text(), nullable=False),
    sa.Column('pair_id', sa.Text(), nullable=False),
    sa.Column('document_id', sa.Text(), nullable=False),
    sa.Column('p_best', sa.Double(), nullable=True),
    sa.Column('p_reasonable', sa.Double(), nullable=True),
    sa.Column('p_worst', sa.Double(), nullable=True),
    sa.Column('evaluator_digest', sa.Text(), nullable=False),
    sa.Column('reading', sa.BigInteger(), nullable=False),
    sa.Column('votes_count', sa.BigInteger(), nullable=False),
    sa.Column('prompt_version', sa.Text(), nullable=False),
    sa.Column('language', sa.Text(), nullable=False),
    sa.Column('log_partition', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('score_id', name=op.f('pk_scores'))
    )
    op.create_index('ix_scores_document_id', 'scores', ['document_id'], unique=False)
    op.create_index('ix_scores_evaluator_digest', 'scores', ['evaluator_digest'], unique=False)
    op.create_index('ix_scores_pair_id', 'scores', ['pair_id'], unique=False)
    op.create_table('scoring_slots',
    sa.Column('slot', sa.Text(), nullable=False),
    sa.Column('evaluator_digest', sa.Text(), nullable=False),
    sa.Column('target_offsets', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('slot', name=op.f('pk_scoring_slots'))
    )
    op.create_table('superseded',
    sa.Column('page_id', sa.Text(), nullable=False),
    sa.Column('body_digest', sa.Text(), nullable=False),
    sa.Column('supersede_time_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('page_id', 'body_digest', name=op.f('pk_superseded'))
    )
    op.create_table('suppressions',
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('target', sa.Text(), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('suppress_time_ms', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('kind', 'target', name=op.f('pk_suppressions'))
    )
    op.create_table('takedown_subjects',
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('subject', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('request_id', 'kind', 'subject', name=op.f('pk_takedown_subjects'))
    )
    op.create_table('takedowns',
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('kind', sa.BigInteger(), nullable=False),
    sa.Column('target', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('request_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('purge', sa.Boolean(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('records_erased', sa.BigInteger(), nullable=False),
    sa.Column('blobs_erased', sa.BigInteger(), nullable=False),
    sa.Column('releases_affected', sa.Text(), nullable=False),
    sa.Column('snapshots_affected', sa.Text(), nullable=False),
    sa.Column('models_affected', sa.Text(), nullable=False),
    sa.Column('reports_affected', sa.Text(), nullable=False),
    sa.Column('change_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('change_number', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('request_id', name=op.f('pk_takedowns'))
    )
    op.create_table('tombstones',
    sa.Column('topic', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('topic', 'key', name=op.f('pk_tombstones'))
    )
    op.create_table('trained_models',
    sa.Column('job_name', sa.Text(), nullable=False),
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('model_digest', sa.Text(), nullable=False),
    sa.Column('failure', sa.Text(), nullable=False),
    sa.Column('base_digest', sa.Text(), nullable=False),
    sa.Column('licence', sa.Text(), nullable=False),
    sa.Column('metrics', sa.Text(), nullable=False),
    sa.Column('snapshot_digest', sa.Text(), nullable=False),
    sa.Column('round', sa.BigInteger(), nullable=False),
    sa.Column('finish_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('promote_when_done', sa.Boolean(), nullable=False),
    sa.Column('log_partition', sa.BigInteger(), nullable=False),
    sa.Column('log_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('job_name', name=op.f('pk_trained_models'))
    )
    op.create_index('ix_trained_models_snapshot_digest', 'trained_models', ['snapshot_digest'], unique=False)
    op.create_table('training_jobs',
    sa.Column('job_name', sa.Text(), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('round', sa.Integer(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('command', sa.LargeBinary(), nullable=False),
    sa.Column('snapshot_digest', sa.Text(), nullable=False),
    sa.Column('steps_done', sa.Integer(), nullable=False),
    sa.Column('steps_count', sa.Integer(), nullable=False),
    sa.Column('loss', sa.Float(), nullable=True),
    sa.Column('model_digest', sa.Text(), nullable=False),
    sa.Column('failure', sa.Text(), nullable=False),
    sa.Column('metrics', sa.Text(), nullable=False),
    sa.Column('attempts_count', sa.Integer(), nullable=False),
    sa.Column('promotion_open', sa.Boolean(), nullable=False),
    sa.Column('owner', sa.Text(), nullable=False),
    sa.Column('owned_until_ms', sa.BigInteger(), nullable=False),
    sa.Column('change_time_ms', sa.BigInteger(), nullable=False),
    sa.Column('change_number', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('job_name', name=op.f('pk_training_jobs'))
    )
    op.create_index(op.f('ix_training_jobs_request_id'), 'training_jobs', ['request_id'], unique=False)
    op.create_index(op.f('ix_training_jobs_state'), 'training_jobs', ['state'], unique=False)
    op.create_table('training_positions',
    sa.Column('partition', sa.Integer(), nullable=False),
    sa.Column('next_offset', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('partition', name=op.f('pk_training_positions'))
    )
