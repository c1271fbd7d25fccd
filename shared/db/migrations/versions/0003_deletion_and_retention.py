"""Artifacts say which image they were made of; models expire, too"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "image_id",
                sa.String(length=40),
                nullable=True,
                comment="it was made of; null: of all that the job reads",
            )
        )
    with op.batch_alter_table("models", schema=None) as batch_op:
        # What is there already is kept until its owner deletes it.
        batch_op.add_column(
            sa.Column("expires_at", sa.Double(), nullable=True, comment="null: kept")
        )
        batch_op.create_index(batch_op.f("ix_models_expires_at"), ["expires_at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_models_expires_at"))
        batch_op.drop_column("expires_at")
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.drop_column("image_id")
