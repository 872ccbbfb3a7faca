"""A hook of mkdocs: adds the files outside docs/ that pages link to, and adjusts the links in both directions."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
HOOKS = [f"examples/hooks/{file.name}" for file in sorted((ROOT / "examples" / "hooks").iterdir()) if file.is_file()]
DEPLOY = ("deploy/systemd/interject.service", "deploy/nginx/interject.conf", "deploy/caddy/Caddyfile")
ADDED = ("CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "examples/README.md", *HOOKS, *DEPLOY)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in ADDED:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links are relative to the page's place in the repository; in the site docs/ and the root are one folder."""
    path = page.file.src_uri
    folder = posixpath.dirname(path if path in ADDED else f"docs/{path}")

    def relink(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1])).removeprefix("docs/")
        return posixpath.relpath(target, posixpath.dirname(path) or ".")

    return LINK.sub(relink, markdown)
