"""Entries of the turn log get the names that the agent uses for them: kinds, and two fields of approvals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KINDS = {
    "heard": "messages_read",
    "answered": "model_answered",
    "decision_asked": "approval_requested",
    "decided": "approval_decided",
    "summarised": "compacted",
    "told": "notice",
}
FIELDS = (("approval_requested", "about", "subject"), ("approval_decided", "verdict", "decision"))


def upgrade() -> None:
    for old, new in KINDS.items():
        _rename_kind(old, new)
    for kind, old, new in FIELDS:
        _rename_field(kind, old, new)


def downgrade() -> None:
    for kind, old, new in FIELDS:
        _rename_field(kind, new, old)
    for old, new in KINDS.items():
        _rename_kind(new, old)


def _rename_kind(old: str, new: str) -> None:
    if _is_sqlite():
        op.execute(
            sa.text(
                "UPDATE turn_log SET entry = json_set(entry, '$.kind', :new) WHERE json_extract(entry, '$.kind') = :old"
            ).bindparams(old=old, new=new)
        )


def _rename_field(kind: str, old: str, new: str) -> None:
    if _is_sqlite():
        op.execute(
            sa.text(
                "UPDATE turn_log SET entry = json_remove("
                "json_set(entry, '$.' || :new, json_extract(entry, '$.' || :old)), '$.' || :old) "
                "WHERE json_extract(entry, '$.kind') = :kind"
            ).bindparams(kind=kind, old=old, new=new)
        )


def _is_sqlite() -> bool:
    """At revision 0001 every database was SQLite: on other engines the log is empty here."""
    return op.get_bind().dialect.name == "sqlite"
