"""Tasks that outlive a call: supervision, retries, background tasks."""
