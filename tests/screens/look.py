"""What the pages of all platforms have in common: own CSS and own drawings, nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
CLOCK = 14 * 60 + 2
"""Minutes of the day at which the first message was written; the others follow, a minute each."""

PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>{css}</style><body>{body}</body></html>"""


def page(platform: str, body: str) -> str:
    """`platform` names the sheet of its looks."""
    css = "".join((HERE / f"{name}.css").read_text(encoding="utf-8") for name in ("common", platform))
    return PAGE.format(title=platform, css=css, body=drawn(body))


def time(number: int) -> str:
    return "{}:{:02}".format(*divmod(CLOCK + number, 60))


def avatar(name: str) -> str:
    """Without a name, its empty place."""
    if not name:
        return '<div class="avatar"></div>'
    if name == "Interject":
        return f'<div class="avatar bot">{_svg(_BOT)}</div>'
    return f'<div class="avatar {escape(name.lower())}">{escape(name[0])}</div>'


def picture(data: bytes) -> str:
    return f'<img class="picture" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def drawn(html: str) -> str:
    """The emoji as drawings: not every machine has a font for them."""
    return _EMOJI.sub(lambda found: _svg(_DRAWINGS[found[1]]), html)


def _svg(inner: str) -> str:
    return f'<svg class="emoji" viewBox="0 0 20 20">{inner}</svg>'


_BOT = (
    '<g fill="none" stroke="#fff" stroke-width="1.9" stroke-linecap="round">'
    '<path d="M4 6.2h6M4 10h3.5M4 13.8h6"/><path d="M16.2 10H10m2.6-2.9L9.8 10l2.8 2.9" stroke-linejoin="round"/></g>'
)
_FACE = '<circle cx="10" cy="10" r="8.6" fill="#fcc93b"/>'
_EYES = '<circle cx="7.2" cy="9" r="1.1" fill="#5b3c11"/><circle cx="12.8" cy="9" r="1.1" fill="#5b3c11"/>'
_DRAWINGS = {
    "⏳": '<path d="M4.5 2.5h11M4.5 17.5h11" stroke="#a5672b" stroke-width="2" stroke-linecap="round"/>'
    '<path d="M6 3.5h8c0 4-3 5-3 6.5s3 2.5 3 6.5H6c0-4 3-5 3-6.5S6 7.5 6 3.5z" fill="#cfe3f2"/>'
    '<path d="M7.4 5h5.2c-.5 2-1.9 2.6-2.6 4-.7-1.4-2.1-2-2.6-4zM10 12c1 1.2 2.8 1.5 3 4H7c.2-2.5 2-2.8 3-4z"'
    ' fill="#f0a93a"/>',
    "👀": "".join(
        f'<ellipse cx="{x}" cy="10" rx="4.3" ry="6.3" fill="#fff" stroke="#8b949e" stroke-width=".9"/>'
        f'<ellipse cx="{x - 1.3}" cy="10.6" rx="2" ry="3" fill="#3b2f2a"/>'
        for x in (5.3, 14.7)
    ),
    "✅": '<rect x="1.5" y="1.5" width="17" height="17" rx="3.6" fill="#43a84a"/>'
    '<path d="M5.5 10.4l3.2 3.2 6-7" fill="none" stroke="#fff" stroke-width="2.3" stroke-linecap="round" '
    'stroke-linejoin="round"/>',
    "🚫": '<circle cx="10" cy="10" r="7.5" fill="none" stroke="#dd3b41" stroke-width="2.6"/>'
    '<path d="M4.8 4.8l10.4 10.4" stroke="#dd3b41" stroke-width="2.6"/>',
    "👌": '<g fill="#fcc93b" stroke="#c98f14" stroke-width=".7"><rect x="9.3" y="2" width="2.7" height="10" rx="1.3"/>'
    '<rect x="12" y="2.6" width="2.7" height="10" rx="1.3" transform="rotate(12 13 8)"/>'
    '<rect x="14.5" y="4.4" width="2.5" height="9" rx="1.2" transform="rotate(24 15.5 9)"/>'
    '<path d="M7.5 10.5h7.8c.4 4-1.3 7.7-4.8 7.7-3 0-4.5-2.6-5-5z"/></g>'
    '<circle cx="6.3" cy="10.3" r="3" fill="none" stroke="#c98f14" stroke-width="2.9"/>'
    '<circle cx="6.3" cy="10.3" r="3" fill="none" stroke="#fcc93b" stroke-width="1.8"/>',
    "🫡": _FACE + _EYES + '<path d="M7 13.5h6" stroke="#5b3c11" stroke-width="1.3" stroke-linecap="round"/>'
    '<path d="M19 11.5L13 4.5l-1.5.6 1 2.7 4.2 6z" fill="#f4b526" stroke="#b87f13" stroke-width=".7"/>',
    "⏸": '<rect x="1.5" y="1.5" width="17" height="17" rx="3.6" fill="#7b8ca3"/>'
    '<path d="M7.3 6v8M12.7 6v8" stroke="#fff" stroke-width="2.4" stroke-linecap="round"/>',
}
_EMOJI = re.compile("({})\ufe0f?".format("|".join(_DRAWINGS)))
