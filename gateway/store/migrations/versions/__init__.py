"""The revisions; `schema.REVISION` names the newest."""
