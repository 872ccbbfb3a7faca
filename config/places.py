"""Where the agent's files may be: apart from the gateway's own, which the agent must not read or change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from config.errors import Fault, Key
from config.hooks import ProcessHookSettings, PythonHookSettings
from config.settings import Settings, every_agent, own_code


def misplaced(settings: Settings, home: Path, file: Path | None) -> Iterator[Fault]:
    """A fault for a folder of workspaces, media or skills that contains the gateway's own files, or lies within a
    folder of them.

    Paths are absolute. The folders may lie in the data directory, where the defaults put them.
    """
    media = settings.media
    own = [(path.resolve(), what) for path, what in _own_files(settings, home, file)]
    folders: dict[Key, Path] = {("agent", "workspace"): settings.agent.workspace.resolve()}
    if media.folder is not None:
        folders["media", "url" if media.url else "path"] = media.folder.resolve()
    for name, agent in settings.agents.items():
        if agent.workspace is not None:
            folders["agents", name, "workspace"] = agent.workspace.resolve()
    for key, folder in folders.items():
        for path, what in own:
            if path.is_relative_to(folder):
                yield Fault(key, f"{folder} contains {what} ({path}). Choose a folder of its own")
                break
    yield from _overlapping(folders)
    yield from _misplaced_skills(settings, own, tuple(folders.values()))
    for name in ("hooks", "backups"):
        for key, folder in folders.items():
            if folder.is_relative_to(home.resolve() / name):
                yield Fault(key, f"{folder} lies within {home / name}, a folder of the gateway's own")


def tools_folder(file: Path) -> Path:
    """The folder beside the settings file whose tools are used without a section of their own."""
    return file.absolute().parent / "tools"


def _overlapping(folders: dict[Key, Path]) -> Iterator[Fault]:
    """The media folder and the workspaces of each agent lie apart."""
    for (key, folder), (other_key, other) in combinations(folders.items(), 2):
        if folder.is_relative_to(other) or other.is_relative_to(folder):
            at = other_key if key == ("agent", "workspace") and other_key[0] == "agents" else key
            what = "media folder" if "media" in (key[0], other_key[0]) else "workspaces of another agent,"
            one, another = (other, folder) if at == other_key else (folder, other)
            yield Fault(at, f"{one} and the {what} {another} contain one another")


def _misplaced_skills(settings: Settings, own: Sequence[tuple[Path, str]], others: Sequence[Path]) -> Iterator[Fault]:
    """The agent may read all that is in a folder of skills, and must not change it."""
    for index, path in enumerate(settings.skills.paths):
        key, folder = ("skills", "paths", index), path.resolve()
        inside = [what for file, what in own if file.is_relative_to(folder)]
        if inside:
            yield Fault(key, f"{folder} contains {inside[0]}. Choose a folder of its own")
        elif any(folder.is_relative_to(other) or other.is_relative_to(folder) for other in others):
            yield Fault(key, f"{folder} and a folder of the agent's files (workspace, media) contain one another")


def _own_files(settings: Settings, home: Path, file: Path | None) -> Iterator[tuple[Path, str]]:
    yield home, "the data directory"
    if settings.store.file is not None:
        yield settings.store.file, "the database"
    if file is not None:
        yield file.absolute(), "the settings file"
        yield tools_folder(file), "the folder of your own tools"
    for agent in every_agent(settings).values():
        if agent.instructions_file is not None:
            yield agent.instructions_file, "the instructions"
    yield from own_code(settings)
    for name, tool in settings.tools.custom.items():
        if (module := tool.path.rpartition(":")[0]).endswith(".py"):
            yield Path(module), f"the tool {name}"
    for hook in settings.hooks:
        what = f"the hook {hook.name}"
        match hook:
            case PythonHookSettings():
                module = hook.path.rpartition(":")[0]
                if module.endswith(".py"):
                    yield Path(module), what
            case ProcessHookSettings():
                base = file.absolute().parent if file is not None else Path.cwd()
                yield from ((base / part, what) for part in hook.command if (base / part).is_file())
            case _:
                pass
