"""Skills and context files from settings."""

from __future__ import annotations

import logging

from agent.context.context_files import ContextFiles
from config.load import Configuration
from gateway.turns.agent_files import AgentFiles

log = logging.getLogger(__name__)


def agent_files(configuration: Configuration) -> AgentFiles:
    skills = configuration.settings.skills
    return AgentFiles(skills.paths, in_workspace=skills.workspace, context_files=context_files(configuration))


def context_files(configuration: Configuration) -> ContextFiles:
    """Those beside the settings file, and of the same names in workspaces."""
    file = configuration.file
    folder = None if file is None else file.absolute().parent
    return ContextFiles(tuple(configuration.settings.agent.context_files), folder)


async def warn_of_skills(files: AgentFiles) -> None:
    """Logs which of the operator's skills cannot be used."""
    for invalid in (await files.skills()).invalid:
        log.warning("a skill cannot be used: %s", invalid)
