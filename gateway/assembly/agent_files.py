"""Skills and context files from settings."""

from __future__ import annotations

import logging

from agent.context.context_files import ContextFiles
from config.load import Configuration
from gateway.turns.agent_files import AgentFiles

log = logging.getLogger(__name__)


def agent_files(configuration: Configuration) -> AgentFiles:
    settings, file = configuration.settings, configuration.file
    folder = None if file is None else file.absolute().parent
    return AgentFiles(
        settings.skills.paths,
        in_workspace=settings.skills.workspace,
        context_files=ContextFiles(tuple(settings.agent.context_files), folder),
    )


async def warn_of_skills(files: AgentFiles) -> None:
    """Logs which of the operator's skills cannot be used."""
    for invalid in (await files.skills()).invalid:
        log.warning("a skill cannot be used: %s", invalid)
