"""Whether other users of the machine can read secrets in the settings file."""

from __future__ import annotations

from config.load import Configuration
from config.settings import every_secret


def readable_secrets(configuration: Configuration) -> str:
    """What is wrong and what to do, in a line; "" if nothing is."""
    file = configuration.file
    if file is None:
        return ""
    try:
        mode, text = file.stat().st_mode, file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    secrets = (secret.get_secret_value() for secret in every_secret(configuration.settings))
    if mode & 0o044 == 0 or not any(secret in text for secret in secrets):
        return ""
    return (
        f"{file} contains secrets and can be read by other users of this machine. Run chmod 600 {file}, or refer to "
        'the secrets: "${NAME}" is an environment variable, "file:/path" the contents of a file'
    )
