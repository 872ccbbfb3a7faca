"""Loads the configuration: finds the file, reads it, resolves references, validates, makes paths absolute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from config.agents import NamedAgentSettings
from config.errors import ConfigurationError, Fault, Key, Problem, Unknown, nearest
from config.expand import anchored, expand, variables_read
from config.hooks import ProcessHookSettings, PythonHookSettings
from config.mcp import McpProgramSettings, McpSettings
from config.media import SECRET_VARIABLES, with_aws_variables
from config.models import provider_and_name
from config.places import misplaced
from config.presets import PRESETS, key_variables
from config.refusal import explained, located
from config.schema import Table
from config.section import Section
from config.settings import Settings, every_agent
from config.store import SQLITE
from config.tools import TOOLS, CustomToolSettings
from config.written import Written, read

CodeSection = TypeVar("CodeSection", PythonHookSettings, CustomToolSettings)

FILE = "interject.toml"


@dataclass(frozen=True, slots=True)
class Configuration:
    """`settings` with absolute paths, the `file` they came from (None: no file), the data directory `home`."""

    settings: Settings
    file: Path | None
    home: Path


def load(path: Path | None, environ: Mapping[str, str], home: Path | None = None) -> Configuration:
    """The configuration in `path`, else INTERJECT_CONFIG, else ./interject.toml, else <home>/interject.toml, else none.

    Environment variables INTERJECT_* override the file. Creates nothing. Raises ConfigurationError with every problem.
    """
    home = (home or data_directory(environ)).absolute()
    file = _file(path, environ, home)
    written = read(file, environ)
    tree, unresolved = expand(written, environ)
    faults: list[Fault | Unknown] = [*unresolved]
    try:
        settings = _with_absolute_paths(Settings.model_validate(_with_defaults(tree, environ)), written, home)
    except ValidationError as error:
        faults += explained(error, tree, besides=unresolved)
    else:
        faults += [
            *_missing_files(settings),
            *_mistyped_tools(settings),
            *_secret_variables(settings, written),
            *misplaced(settings, home, file),
        ]
    if faults or written.problems:
        # Without a cause: pydantic's error contains the given values.
        raise ConfigurationError([*written.problems, *located(faults, tree, written)]) from None
    return Configuration(settings, file, home)


def data_directory(environ: Mapping[str, str]) -> Path:
    """The directory for state: INTERJECT_HOME, or the platform's default for user data. Raises `ConfigurationError`
    where there is neither."""
    if given := environ.get("INTERJECT_HOME"):
        return anchored(Path(given), Path.cwd())
    import platformdirs  # loaded only if the directory is not given

    # Without a home directory some releases of the library raise this, others return a relative path.
    with suppress(RuntimeError):
        found = platformdirs.user_data_path("interject", appauthor=False)
        if found.is_absolute():
            return found
    problem = "this user has no home directory: set INTERJECT_HOME to a directory for the gateway's data"
    raise ConfigurationError([Problem(problem)])


def _file(path: Path | None, environ: Mapping[str, str], home: Path) -> Path | None:
    if path is not None:
        return path
    if given := environ.get("INTERJECT_CONFIG"):
        return anchored(Path(given), Path.cwd())
    return next((file for file in (Path(FILE), home / FILE) if file.is_file()), None)


def _with_defaults(tree: Table, environ: Mapping[str, str]) -> Table:
    """The tree, with what the standard variables of services give."""
    return with_aws_variables(_with_default_keys(tree, environ), environ)


def _with_default_keys(tree: Table, environ: Mapping[str, str]) -> Table:
    """The tree, with the API key of each known provider in use taken from that provider's standard variable.

    Not if a base_url is set in place of the provider's own: the key would be sent to a server that it was not issued
    for.
    """
    models = tree.get("models", {})
    if not isinstance(models, dict):
        return tree
    found = {}
    for provider in _providers(tree) & set(PRESETS):
        preset, known = PRESETS[provider], models.get(provider, {})
        if not isinstance(known, dict) or "api_key" in known or (preset.base_url and "base_url" in known):
            continue
        if key := environ.get(preset.key_variable):
            found[provider] = {**known, "api_key": key}
    return {**tree, "models": {**models, **found}} if found else tree


def _providers(tree: Table) -> set[str]:
    """The providers that have a section, or a model that an agent or a channel uses."""
    channels, agents, providers = tree.get("channels"), tree.get("agents"), tree.get("models")
    named = [section for table in (channels, agents) if isinstance(table, dict) for section in table.values()]
    sections = [tree.get("agent"), *named]
    models: list[object] = []
    for section in sections:
        if isinstance(section, dict):
            fallback = section.get("fallback")
            models += [section.get(name) for name in ("model", "small_model", "vision_model", "transcription_model")]
            models += fallback if isinstance(fallback, list) else []
    used = {provider_and_name(model)[0] for model in models if isinstance(model, str)}
    return used | set(providers if isinstance(providers, dict) else ())


def _with_absolute_paths(settings: Settings, written: Written, home: Path) -> Settings:
    """The settings with absolute paths: given paths are relative to their file, defaults to the data directory."""

    def absolute(path: Path, section: Section, key: Key) -> Path:
        return anchored(path, written.base(key) if key[-1] in section.model_fields_set else home)

    agent, store, media, skills = settings.agent, settings.store, settings.media, settings.skills
    context = agent.context and _absolute_code(agent.context, written.base(("agent", "context")))
    workspace = absolute(agent.workspace, agent, ("agent", "workspace"))
    instructions = agent.instructions_file and absolute(agent.instructions_file, agent, ("agent", "instructions_file"))
    database = store.file and absolute(store.file, store, ("store", "url"))
    pictures = absolute(media.path, media, ("media", "path"))
    return settings.model_copy(
        update={
            "agent": agent.model_copy(
                update={"workspace": workspace, "instructions_file": instructions, "context": context}
            ),
            "agents": {
                name: _with_absolute_files(named, written.base(("agents", name)))
                for name, named in settings.agents.items()
            },
            "store": store.model_copy(update={"url": f"{SQLITE}{database.as_posix()}"}) if database else store,
            "media": media.model_copy(update={"path": pictures}),
            "skills": skills.model_copy(
                update={"paths": [anchored(path, written.base(("skills", "paths"))) for path in skills.paths]}
            ),
            "hooks": [
                _with_absolute_code(hook, written.base(("hooks",))) if isinstance(hook, PythonHookSettings) else hook
                for hook in settings.hooks
            ],
            "tools": settings.tools.model_copy(
                update={
                    name: _with_absolute_code(own, written.base(("tools", name, "path")))
                    for name, own in settings.tools.custom.items()
                }
            ),
            "mcp": {
                name: _with_absolute_folders(server, written.base(("mcp", name)))
                for name, server in settings.mcp.items()
            },
        }
    )


def _with_absolute_files(agent: NamedAgentSettings, base: Path) -> NamedAgentSettings:
    paths = {"workspace": agent.workspace, "instructions_file": agent.instructions_file}
    return agent.model_copy(update={name: anchored(path, base) for name, path in paths.items() if path is not None})


def _with_absolute_code(section: CodeSection, base: Path) -> CodeSection:
    """A section that names Python code: in a file, or in a module."""
    return section.model_copy(update={"path": _absolute_code(section.path, base)})


def _absolute_code(path: str, base: Path) -> str:
    file, _, name = path.rpartition(":")
    return f"{anchored(Path(file), base)}:{name}" if file.endswith(".py") else path


def _with_absolute_folders(server: McpSettings, base: Path) -> McpSettings:
    if not isinstance(server, McpProgramSettings):
        return server
    readable = [anchored(path, base) for path in server.readable]
    return server.model_copy(
        update={"readable": readable, "writable": [anchored(path, base) for path in server.writable]}
    )


def _secret_variables(settings: Settings, written: Written) -> Iterator[Fault]:
    """A fault for each variable that other programs are to be given though the settings read it."""
    secret = variables_read(written) | set(key_variables().values())
    if settings.store.file is None:
        secret |= {"PGPASSWORD"}
    if settings.media.is_bucket:
        secret |= SECRET_VARIABLES
    given: dict[Key, list[str]] = {("tools", "shell", "environment"): settings.tools.shell.environment}
    for index, hook in enumerate(settings.hooks):
        if isinstance(hook, ProcessHookSettings):
            given[("hooks", index, "environment")] = hook.environment
    for name, server in settings.mcp.items():
        if isinstance(server, McpProgramSettings):
            given[("mcp", name, "environment")] = server.environment
    for key, names in given.items():
        for index, name in enumerate(names):
            if name in secret or name.startswith("INTERJECT_"):
                yield Fault((*key, index), f"{name} holds a setting of the gateway, which other programs never get")


def _missing_files(settings: Settings) -> Iterator[Fault]:
    for key, agent in every_agent(settings).items():
        if agent.instructions_file and not agent.instructions_file.is_file():
            yield Fault((*key, "instructions_file"), "no such file")
    for index, path in enumerate(settings.skills.paths):
        if not path.is_dir():
            yield Fault(("skills", "paths", index), "no such folder")


def _mistyped_tools(settings: Settings) -> Iterator[Fault]:
    """A fault for each name in a list of tools that is nearly a built-in tool's. Any other name may be a tool's of a
    file, a package or a server."""
    lists: dict[Key, list[str] | None] = {("roles", name, "tools"): role.tools for name, role in settings.roles}
    lists |= {(*key, "tools"): agent.tools for key, agent in every_agent(settings).items()}
    for key, names in lists.items():
        for index, name in enumerate(names or ()):
            if name in TOOLS or name in settings.tools.custom or not name.isidentifier():
                continue
            if near := nearest(name, TOOLS):
                yield Fault((*key, index), f'no tool has this name. Did you mean "{near}"?')
