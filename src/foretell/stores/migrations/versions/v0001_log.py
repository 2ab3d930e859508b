"""The log of a study as tables, and views for people."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

revision = "0001"
down_revision = None


class Untyped(UserDefinedType[float]):
    """A column without a declared type, which keeps -0.0."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Nothing."""
        return ""


VIEWS = (
    """
    CREATE VIEW attempt AS
    SELECT
        study.name AS study,
        started.trial,
        started.attempt,
        coalesce(json_extract(ended.data, '$.state'), 'running') AS state,
        json_extract(started.data, '$.step') AS first_step,
        coalesce(
            json_extract(ended.data, '$.step'),
            (
                SELECT max(report.step) FROM report
                WHERE report.study_id = started.study_id AND report.sequence > started.sequence
                    AND report.trial = started.trial AND report.attempt = started.attempt
            ),
            json_extract(started.data, '$.step')
        ) AS step,
        started.time AS started,
        ended.time AS ended,
        json_extract(ended.data, '$.seconds') AS seconds,
        nullif(json_extract(ended.data, '$.cause'), '') AS cause,
        nullif(json_extract(ended.data, '$.error'), '') AS error
    FROM event AS started
    JOIN study ON study.id = started.study_id
    LEFT JOIN event AS ended ON ended.study_id = started.study_id AND ended.trial = started.trial
        AND ended.kind = 'Ended' AND ended.attempt = started.attempt
    WHERE started.kind = 'Started'
    """,
    """
    CREATE VIEW trial AS
    SELECT
        study.name AS study,
        created.trial AS number,
        CASE newest.kind
            WHEN 'Created' THEN 'queued' WHEN 'Started' THEN 'running' ELSE json_extract(newest.data, '$.state')
        END AS state,
        json_extract(created.data, '$.params') AS params,
        json_extract(created.data, '$.origin') AS origin,
        json_extract(created.data, '$.parent') AS parent,
        history.attempts,
        CASE newest.kind
            WHEN 'Created' THEN 0
            WHEN 'Ended' THEN json_extract(newest.data, '$.step')
            ELSE coalesce(
                (
                    SELECT max(report.step) FROM report
                    WHERE report.study_id = newest.study_id AND report.sequence > newest.sequence
                        AND report.trial = newest.trial AND report.attempt = newest.attempt
                ),
                json_extract(newest.data, '$.step')
            )
        END AS step,
        created.time AS created,
        history.started,
        CASE WHEN newest.kind = 'Ended' AND json_extract(newest.data, '$.state') NOT IN ('queued', 'paused')
            THEN newest.time
        END AS ended,
        history.seconds,
        nullif(json_extract(newest.data, '$.error'), '') AS error
    FROM (
        SELECT
            study_id,
            trial,
            max(sequence) AS sequence,
            max(CASE kind WHEN 'Created' THEN sequence END) AS created,
            count(CASE kind WHEN 'Started' THEN 1 END) AS attempts,
            min(CASE kind WHEN 'Started' THEN time END) AS started,
            total(CASE kind WHEN 'Ended' THEN json_extract(data, '$.seconds') END) AS seconds
        FROM event
        WHERE kind IN ('Created', 'Started', 'Ended')
        GROUP BY study_id, trial
    ) AS history
    JOIN study ON study.id = history.study_id
    JOIN event AS created ON created.study_id = history.study_id AND created.sequence = history.created
    JOIN event AS newest ON newest.study_id = history.study_id AND newest.sequence = history.sequence
    """,
    """
    CREATE VIEW curve AS
    SELECT
        study.name AS study,
        report.trial,
        report.step,
        metric_name.name AS metric,
        metric.value,
        report.attempt,
        report.seconds,
        report.time,
        report.sequence
    FROM report
    JOIN study ON study.id = report.study_id
    JOIN metric ON metric.study_id = report.study_id AND metric.sequence = report.sequence
    JOIN metric_name ON metric_name.id = metric.name_id
    WHERE NOT EXISTS (
        SELECT 1 FROM event AS later
        WHERE later.study_id = report.study_id AND later.trial = report.trial AND later.kind = 'Started'
            AND later.attempt > report.attempt
            AND (json_extract(later.data, '$.step') < report.step OR json_extract(later.data, '$.step') = 0)
    )
    """,
    """
    CREATE VIEW summary AS
    SELECT
        study,
        trial,
        metric,
        min(value) AS lowest,
        max(value) AS highest,
        max(CASE WHEN newest = 1 THEN value END) AS last,
        max(step) AS step
    FROM (SELECT *, row_number() OVER (PARTITION BY study, trial, metric ORDER BY step DESC) AS newest FROM curve)
    GROUP BY study, trial, metric
    """,
    """
    CREATE VIEW decision AS
    SELECT
        study.name AS study,
        event.trial,
        coalesce(json_extract(data, '$.verdict.step'), json_extract(data, '$.step')) AS step,
        coalesce(json_extract(data, '$.verdict.action'), 'continue') AS action,
        coalesce(json_extract(data, '$.verdict.rule'), 'scheduler') AS rule,
        coalesce(json_extract(data, '$.verdict.reason'), json_extract(data, '$.reason'), '') AS reason,
        coalesce(
            json_extract(data, '$.verdict.value."~float"'), json_extract(data, '$.verdict.value')
        ) AS value,
        coalesce(
            json_extract(data, '$.verdict.limit."~float"'), json_extract(data, '$.verdict.limit')
        ) AS "limit",
        json_extract(data, '$.verdict.evidence') AS evidence,
        event.time,
        event.sequence
    FROM event
    JOIN study ON study.id = event.study_id
    WHERE (event.kind IN ('Ended', 'Concluded') AND json_extract(data, '$.verdict.rule') IS NOT NULL)
        OR (event.kind = 'Granted' AND json_extract(data, '$.reason') <> '')
    """,
    """
    CREATE VIEW checkpoint AS
    SELECT
        study.name AS study,
        saved.trial,
        saved.attempt,
        json_extract(saved.data, '$.step') AS step,
        json_extract(saved.data, '$.folder') AS folder,
        json_extract(saved.data, '$.digest') AS digest,
        json_extract(saved.data, '$.newest') AS newest,
        json_extract(saved.data, '$.best') AS best,
        json_extract(saved.data, '$.seconds') AS seconds,
        saved.time AS saved,
        (
            SELECT min(later.time) FROM event AS later
            WHERE later.study_id = saved.study_id AND later.trial = saved.trial AND later.kind = 'Dropped'
                AND later.sequence > saved.sequence
                AND json_extract(later.data, '$.folder') = json_extract(saved.data, '$.folder')
        ) AS dropped
    FROM event AS saved
    JOIN study ON study.id = saved.study_id
    WHERE saved.kind = 'Saved'
    """,
)


def upgrade() -> None:
    """Make everything."""
    op.create_table(
        "study",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("created", Untyped, nullable=False),
    )
    op.create_table(
        "event",
        sa.Column("study_id", sa.Integer, sa.ForeignKey("study.id"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("time", Untyped, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("trial", sa.Integer),
        sa.Column("attempt", sa.Integer),
        sa.Column("data", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("event_by_trial", "event", ["study_id", "trial", "kind"])
    op.create_table(
        "metric_name",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
    )
    op.create_table(
        "report",
        sa.Column("study_id", sa.Integer, sa.ForeignKey("study.id"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("time", Untyped, nullable=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("seconds", Untyped),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric",
        sa.Column("study_id", sa.Integer, primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("name_id", sa.Integer, sa.ForeignKey("metric_name.id"), nullable=False),
        sa.Column("value", Untyped),
        sa.ForeignKeyConstraint(["study_id", "sequence"], ["report.study_id", "report.sequence"]),
        sqlite_with_rowid=False,
    )
    for view in VIEWS:
        op.execute(view)
