"""A worker process that draws the demo's pictures: a scene as JSON on stdin, a PNG on stdout.

It is a separate process because drawing loads a library that the gateway does not need otherwise.
"""

from __future__ import annotations

import io
import json
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SMOOTH = 2
"""Everything is drawn so many times larger, and scaled down."""

HORIZON = 0.62
LABEL = "drawn by Interject's demo, not by an image model"

COLORS = {
    "red": "#d9483b",
    "orange": "#e88a2e",
    "yellow": "#f5c542",
    "green": "#4f9d57",
    "blue": "#3f7fc4",
    "purple": "#8659b5",
    "pink": "#e88fb4",
    "white": "#f7f7f2",
    "black": "#26272b",
    "brown": "#7a5236",
    "grey": "#8b929b",
}
BACKGROUND = ("mountain", "sea")
GROUND = ("hut", "tree", "flower", "cat")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where it is drawn. `unit` is a hundredth of the shorter side."""

    draw: ImageDraw.ImageDraw
    width: int
    height: int
    night: bool
    chance: random.Random

    @property
    def unit(self) -> float:
        return min(self.width, self.height) / 100

    @property
    def horizon(self) -> float:
        return self.height * HORIZON

    def disc(self, x: float, y: float, radius: float, color: str) -> None:
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    def shape(self, *points: Point, color: str) -> None:
        self.draw.polygon(points, fill=color)


def picture(scene: Mapping[str, Any]) -> bytes:
    """The scene as a PNG."""
    width, height = scene["width"] * SMOOTH, scene["height"] * SMOOTH
    image = Image.new("RGB", (width, height))
    canvas = Canvas(ImageDraw.Draw(image), width, height, scene["night"], random.Random(scene["seed"]))
    shapes: Sequence[Mapping[str, Any]] = scene["shapes"]
    if shapes:
        _landscape(canvas, shapes)
    else:
        _circles(canvas)
    image = image.resize((scene["width"], scene["height"]), Image.Resampling.LANCZOS)
    _label(image)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def _landscape(canvas: Canvas, shapes: Sequence[Mapping[str, Any]]) -> None:
    _sky(canvas)
    kinds = [shape["kind"] for shape in shapes]
    _ground(canvas, "#e9eef2" if "snow" in kinds else "#3c6b45" if canvas.night else "#86b86b")
    for kind in BACKGROUND:
        for shape in shapes:
            if shape["kind"] == kind:
                DRAWN[kind](canvas, 0, 0, COLORS.get(shape["color"], ""))
    for group in (_in_the_air(shapes), [shape for shape in shapes if shape["kind"] == "boat"], _on_the_ground(shapes)):
        things = [shape for shape in group for _ in range(shape["count"])]
        for number, shape in enumerate(things):
            # Boats to the right, so that what stands in front hides little of them.
            middle = 0.75 if shape["kind"] == "boat" else 0.5
            x = canvas.width * (number + middle + canvas.chance.uniform(-0.15, 0.15)) / len(things)
            y = canvas.chance.uniform(-1, 1)
            DRAWN[shape["kind"]](canvas, x, y, COLORS.get(shape["color"], ""))
    for kind in ("rain", "snow"):
        if kind in kinds:
            _falling(canvas, kind)


def _in_the_air(shapes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    others = {*BACKGROUND, *GROUND, "boat", "rain", "snow"}
    return [shape for shape in shapes if shape["kind"] not in others]


def _on_the_ground(shapes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [shape for shape in shapes if shape["kind"] in GROUND]


def _sky(canvas: Canvas) -> None:
    top, bottom = ((18, 25, 56), (66, 74, 120)) if canvas.night else ((110, 176, 232), (221, 238, 247))
    for row in range(math.ceil(canvas.horizon)):
        part = row / canvas.horizon
        color = tuple(round(high + (low - high) * part) for high, low in zip(top, bottom, strict=True))
        canvas.draw.line(((0, row), (canvas.width, row)), fill=color)


def _ground(canvas: Canvas, color: str) -> None:
    canvas.draw.rectangle((0, canvas.horizon, canvas.width, canvas.height), fill=color)


def _sun(canvas: Canvas, x: float, y: float, color: str) -> None:
    y, size = (0.2 + 0.05 * y) * canvas.height, 8 * canvas.unit
    for ray in range(12):
        angle = math.tau * ray / 12
        end = (x + math.cos(angle) * size * 1.7, y + math.sin(angle) * size * 1.7)
        canvas.draw.line(((x, y), end), fill=color or COLORS["yellow"], width=round(canvas.unit))
    canvas.disc(x, y, size * 1.15, "#cfe4f3" if not canvas.night else "#252f63")
    canvas.disc(x, y, size, color or COLORS["yellow"])


def _moon(canvas: Canvas, x: float, y: float, color: str) -> None:
    y, size = (0.2 + 0.05 * y) * canvas.height, 8 * canvas.unit
    canvas.disc(x, y, size, color or "#f4efd2")
    for left, up, part in ((0.3, 0.2, 0.22), (-0.35, -0.1, 0.16), (0.05, -0.45, 0.13)):
        canvas.disc(x - left * size, y - up * size, part * size, "#ddd6b2")


def _star(canvas: Canvas, x: float, y: float, color: str) -> None:
    y = (0.2 + 0.12 * y) * canvas.height
    corners = [
        (x + math.sin(math.pi * corner / 5) * size, y - math.cos(math.pi * corner / 5) * size)
        for corner in range(10)
        for size in ((3 if corner % 2 == 0 else 1.2) * canvas.unit,)
    ]
    canvas.shape(*corners, color=color or "#fbe9a0")


def _cloud(canvas: Canvas, x: float, y: float, color: str) -> None:
    y, color = (0.2 + 0.08 * y) * canvas.height, color or ("#8a90ab" if canvas.night else "#ffffff")
    for right, down, size in ((-9, 1, 5), (-3, -2, 7), (4, -1, 6), (9, 1.5, 4.5)):
        canvas.disc(x + right * canvas.unit, y + down * canvas.unit, size * canvas.unit, color)


def _bird(canvas: Canvas, x: float, y: float, color: str) -> None:
    y, wing = (0.28 + 0.12 * y) * canvas.height, 4 * canvas.unit
    for left in (x - 2 * wing, x):
        box = (left, y - wing / 2, left + 2 * wing, y + wing)
        canvas.draw.arc(box, 200, 340, fill=color or "#33363d", width=round(0.9 * canvas.unit))


def _balloon(canvas: Canvas, x: float, y: float, color: str) -> None:
    y, unit = (0.28 + 0.08 * y) * canvas.height, canvas.unit
    canvas.draw.line(((x, y), (x, y + 20 * unit)), fill="#55585f", width=round(0.5 * unit))
    canvas.draw.ellipse((x - 6 * unit, y - 8 * unit, x + 6 * unit, y + 7 * unit), fill=color or COLORS["red"])
    canvas.disc(x - 2 * unit, y - 3.5 * unit, 1.4 * unit, "#ffffff")


def _heart(canvas: Canvas, x: float, y: float, color: str) -> None:
    y, unit = (0.3 + 0.08 * y) * canvas.height, canvas.unit
    curve = [math.tau * step / 60 for step in range(60)]
    canvas.shape(
        *(
            (
                x + 0.55 * unit * 16 * math.sin(angle) ** 3,
                y
                - 0.55
                * unit
                * (13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)),
            )
            for angle in curve
        ),
        color=color or COLORS["red"],
    )


def _fish(canvas: Canvas, x: float, y: float, color: str) -> None:
    y, unit, color = (0.72 + 0.03 * y) * canvas.height, canvas.unit, color or COLORS["orange"]
    canvas.shape((x + 4 * unit, y), (x + 10 * unit, y - 4 * unit), (x + 10 * unit, y + 4 * unit), color=color)
    canvas.draw.ellipse((x - 7 * unit, y - 3.6 * unit, x + 6 * unit, y + 3.6 * unit), fill=color)
    canvas.disc(x - 4 * unit, y - 0.8 * unit, 0.8 * unit, "#26272b")


def _mountain(canvas: Canvas, x: float, y: float, color: str) -> None:
    base = canvas.horizon
    for peak, height, width in ((0.22, 0.36, 0.3), (0.72, 0.32, 0.34), (0.48, 0.46, 0.36)):
        top, half, middle = base - height * canvas.height, width * canvas.width, peak * canvas.width
        canvas.shape((middle, top), (middle - half, base), (middle + half, base), color=color or "#6c7c93")
        canvas.shape(
            (middle, top),
            (middle - half * 0.24, top + 0.24 * (base - top)),
            (middle, top + 0.17 * (base - top)),
            (middle + half * 0.24, top + 0.24 * (base - top)),
            color="#f4f6f8",
        )


def _sea(canvas: Canvas, x: float, y: float, color: str) -> None:
    unit = canvas.unit
    end = canvas.horizon + 0.2 * canvas.height
    canvas.draw.rectangle(
        (0, canvas.horizon, canvas.width, end), fill=color or ("#24406e" if canvas.night else "#3f8fc4")
    )
    for _ in range(26):
        left, row = canvas.chance.uniform(0, canvas.width), canvas.chance.uniform(canvas.horizon + 2 * unit, end - unit)
        canvas.draw.line(((left, row), (left + 8 * unit, row)), fill="#8fc3e2", width=round(0.5 * unit))
    canvas.draw.rectangle((0, end, canvas.width, end + 1.4 * unit), fill="#f1e3b6")


def _boat(canvas: Canvas, x: float, y: float, color: str) -> None:
    unit = canvas.unit
    y = canvas.horizon + (7 + 2 * y) * unit
    canvas.draw.line(((x, y), (x, y - 20 * unit)), fill="#5b4632", width=round(unit))
    canvas.shape((x + unit, y - 20 * unit), (x + unit, y - 3 * unit), (x + 11 * unit, y - 3 * unit), color="#f7f7f2")
    canvas.shape((x - unit, y - 17 * unit), (x - unit, y - 3 * unit), (x - 8 * unit, y - 3 * unit), color="#e9e4d4")
    canvas.shape(
        (x - 12 * unit, y - 2 * unit),
        (x + 13 * unit, y - 2 * unit),
        (x + 9 * unit, y + 4 * unit),
        (x - 8 * unit, y + 4 * unit),
        color=color or COLORS["brown"],
    )


def _hut(canvas: Canvas, x: float, y: float, color: str) -> None:
    unit = canvas.unit
    base = (0.9 + 0.015 * y) * canvas.height
    canvas.draw.rectangle((x - 11 * unit, base - 16 * unit, x + 11 * unit, base), fill=color or "#f0dcb8")
    canvas.draw.rectangle((x + 5 * unit, base - 28 * unit, x + 8 * unit, base - 18 * unit), fill="#7b4a3c")
    canvas.shape(
        (x - 14 * unit, base - 16 * unit),
        (x, base - 29 * unit),
        (x + 14 * unit, base - 16 * unit),
        color="#6b4a8a" if color == COLORS["red"] else "#b5483b",
    )
    canvas.draw.rectangle((x - 2.5 * unit, base - 9 * unit, x + 2.5 * unit, base), fill="#6b4a32")
    for left in (-8.5, 4.5):
        pane = "#ffd97a" if canvas.night else "#a9d3ea"
        canvas.draw.rectangle(
            (x + left * unit, base - 12.5 * unit, x + (left + 4) * unit, base - 8.5 * unit), fill=pane
        )


def _tree(canvas: Canvas, x: float, y: float, color: str) -> None:
    unit = canvas.unit
    base, color = (0.88 + 0.03 * y) * canvas.height, color or ("#2f6b45" if canvas.night else "#4f9d57")
    canvas.draw.rectangle((x - 1.6 * unit, base - 12 * unit, x + 1.6 * unit, base), fill="#7a5236")
    for right, up, size in ((-4, 15, 6), (4, 15, 6), (0, 21, 7)):
        canvas.disc(x + right * unit, base - up * unit, size * unit, color)


def _flower(canvas: Canvas, x: float, y: float, color: str) -> None:
    unit = canvas.unit
    base = (0.94 + 0.02 * y) * canvas.height
    head = base - 10 * unit
    canvas.draw.line(((x, base), (x, head)), fill="#3f7d46", width=round(0.8 * unit))
    for petal in range(6):
        angle = math.tau * petal / 6
        canvas.disc(
            x + math.cos(angle) * 2.3 * unit, head + math.sin(angle) * 2.3 * unit, 1.7 * unit, color or "#e88fb4"
        )
    canvas.disc(x, head, 1.6 * unit, COLORS["yellow"])


def _cat(canvas: Canvas, x: float, y: float, color: str) -> None:
    unit, fur = canvas.unit, color or "#e0913f"
    base = (0.93 + 0.02 * y) * canvas.height
    tail = (x + 3 * unit, base - 14 * unit, x + 14 * unit, base)
    canvas.draw.arc(tail, 300, 110, fill=fur, width=round(1.8 * unit))
    canvas.draw.ellipse((x - 6.5 * unit, base - 13 * unit, x + 6.5 * unit, base + unit), fill=fur)
    for side in (-1, 1):
        ear = [(x + side * right * unit, base - up * unit) for right, up in ((5.2, 17), (4.8, 23.5), (1, 20.5))]
        canvas.shape(*ear, color=fur)
    canvas.disc(x, base - 16 * unit, 5.4 * unit, fur)
    light = "#f7f7f2" if fur == COLORS["black"] else "#26272b"
    for side in (-1, 1):
        canvas.disc(x + side * 2 * unit, base - 16.8 * unit, 0.8 * unit, light)
        for lift in (-0.6, 0.6):
            whisker = ((x + side * 1.5 * unit, base - 14 * unit), (x + side * 7.5 * unit, base - (14 + lift) * unit))
            canvas.draw.line(whisker, fill=light, width=max(1, round(0.25 * unit)))
    canvas.shape(
        (x - 0.8 * unit, base - 15 * unit), (x + 0.8 * unit, base - 15 * unit), (x, base - 14 * unit), color="#d9797b"
    )


def _falling(canvas: Canvas, kind: str) -> None:
    unit = canvas.unit
    for _ in range(160):
        x, y = canvas.chance.uniform(0, canvas.width), canvas.chance.uniform(0, canvas.height)
        if kind == "snow":
            canvas.disc(x, y, canvas.chance.uniform(0.3, 0.8) * unit, "#ffffff")
        else:
            canvas.draw.line(((x, y), (x - 1.2 * unit, y + 4 * unit)), fill="#a9c6dd", width=round(0.4 * unit))


def _circles(canvas: Canvas) -> None:
    """For words that have no shape."""
    canvas.draw.rectangle((0, 0, canvas.width, canvas.height), fill="#f4f1ea")
    colors = list(COLORS.values())
    for _ in range(14):
        x, y = canvas.chance.uniform(0, canvas.width), canvas.chance.uniform(0, canvas.height)
        canvas.disc(x, y, canvas.chance.uniform(5, 18) * canvas.unit, canvas.chance.choice(colors))


def _label(image: Image.Image) -> None:
    """Whoever sees the picture elsewhere should know what it is."""
    draw = ImageDraw.Draw(image, "RGBA")
    font = ImageFont.load_default(15)
    left, top, right, bottom = draw.textbbox((0, 0), LABEL, font=font)
    x, y = image.width - (right - left) - 10, image.height - (bottom - top) - 14
    draw.rectangle((x - 6, y - 4, image.width, image.height), fill=(0, 0, 0, 110))
    draw.text((x, y), LABEL, font=font, fill="#ffffff")


DRAWN: Mapping[str, Callable[[Canvas, float, float, str], None]] = {
    "sun": _sun,
    "moon": _moon,
    "star": _star,
    "cloud": _cloud,
    "bird": _bird,
    "balloon": _balloon,
    "heart": _heart,
    "fish": _fish,
    "mountain": _mountain,
    "sea": _sea,
    "boat": _boat,
    "hut": _hut,
    "tree": _tree,
    "flower": _flower,
    "cat": _cat,
}


if __name__ == "__main__":
    sys.stdout.buffer.write(picture(json.load(sys.stdin)))
