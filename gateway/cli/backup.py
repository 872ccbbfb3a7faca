"""`interject backup` and `interject restore`."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from agent.media import MediaError
from config.load import Configuration
from config.settings import Settings
from gateway.assembly.media import media_blobs
from gateway.assembly.signals import ExtraMissing
from gateway.assembly.workspaces import workspace_roots
from gateway.cli.home import describe_error
from gateway.cli.output import json_line, write_lines
from gateway.media.copying import put_files
from gateway.store import backup
from gateway.store.backup_archive import BackupSummary
from gateway.store.errors import StoreBusy, StoreError


def back_up(configuration: Configuration, target: Path, *, overwrite: bool, as_json: bool = False) -> int:
    """Returns the exit code: 1 when no backup was made."""
    settings = configuration.settings
    try:
        made = backup.back_up(
            settings.store.url, settings.media.folder, target, workspaces=_workspaces(settings), overwrite=overwrite
        )
    except (StoreError, OSError) as error:
        return _failed(error, configuration)
    if as_json:
        write_lines([json_line({"file": str(target), **asdict(made)})])
        return 0
    sys.stdout.write(f"Backed up to {target}: {_contents(made)}. Store it safely: conversations are in it.\n")
    if settings.media.is_bucket:
        sys.stdout.write(f"The files of conversations are in {settings.media.url}, and not in the backup.\n")
    return 0


def restore(configuration: Configuration, source: Path, *, overwrite: bool, as_json: bool = False) -> int:
    """Returns the exit code: 1 when nothing was restored."""
    settings = configuration.settings
    media = settings.media.folder or partial(_put_into_bucket, configuration)
    try:
        found = backup.restore(settings.store.url, media, source, workspaces=_workspaces(settings), overwrite=overwrite)
    except StoreBusy as error:
        holder = f"process {error.pid}" if error.pid is not None else "another process"
        sys.stderr.write(f"interject: a gateway is running ({holder}): stop it, then restore\n")
        return 1
    except (StoreError, MediaError, ExtraMissing, OSError) as error:
        return _failed(error, configuration)
    if as_json:
        write_lines([json_line({"file": str(source), **asdict(found)})])
        return 0
    sys.stdout.write(f"Restored the backup of {found.made_at}: {_contents(found)}.\n")
    return 0


def _put_into_bucket(configuration: Configuration, files: Path) -> None:
    if any(files.iterdir()):
        asyncio.run(put_files(files, media_blobs(configuration)))


def _workspaces(settings: Settings) -> dict[str, Path]:
    """None of them if a workspace is a folder of the operator's own."""
    return {} if settings.agent.workspaces == "shared" else workspace_roots(settings)


def _contents(summary: BackupSummary) -> str:
    missing = f", {summary.missing} files were no longer stored" if summary.missing else ""
    left_out = f" ({summary.left_out} could not be read)" if summary.left_out else ""
    workspaces = f", {summary.workspaces} files in workspaces{left_out}" if summary.workspaces or left_out else ""
    return (
        f"{summary.conversations} conversations, {summary.messages} messages, {summary.files} files"
        f"{missing}{workspaces}"
    )


def _failed(error: Exception, configuration: Configuration) -> int:
    sys.stderr.write(f"interject: {describe_error(error, configuration.home)}\n")
    return 1
