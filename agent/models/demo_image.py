"""The image model of the demo: offline and deterministic, it draws simple shapes for the words that it knows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from agent.image_model import GeneratedImage, ImageSize, ReferencePicture
from agent.model import ModelError
from agent.worker_process import WorkerFailed, run_worker

TIMEOUT = 30.0
"""Seconds to draw a picture."""

SIZES: dict[ImageSize, tuple[int, int]] = {
    "auto": (960, 640),
    "square": (768, 768),
    "landscape": (960, 640),
    "portrait": (640, 960),
}

MAX_SHAPES = 8
MAX_COUNT = 9

_WORDS = {
    "sun": "sun|sunny|sunshine",
    "moon": "moon",
    "star": "stars?",
    "cloud": "clouds?|cloudy",
    "rain": "rain|rainy",
    "snow": "snow|snowy|winter",
    "mountain": "mountains?|hills?|alps",
    "sea": "sea|ocean|lake|water|river|beach|harbou?r",
    "boat": "boats?|ships?|sailing",
    "hut": "huts?|houses?|homes?|cottages?|villages?",
    "tree": "trees?|forest|woods?|park",
    "flower": "flowers?|garden|roses?|tulips?",
    "cat": "cats?|kittens?",
    "bird": "birds?|gulls?|seagulls?",
    "fish": "fish|fishes",
    "balloon": "balloons?",
    "heart": "hearts?|love",
}
_MANY = frozenset({"forest", "woods", "wood", "village", "garden", "park", "alps"})
_COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown", "grey")
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NIGHT = re.compile(r"(?i)\b(?:night|dark)\b")
_KINDS = {kind: re.compile(rf"(?i)(?:{words})") for kind, words in _WORDS.items()}


@dataclass(frozen=True, slots=True)
class Shape:
    """A thing in a picture, so many times. `color` is "" for its own."""

    kind: str
    color: str = ""
    count: int = 1


class DemoImageModel:
    """Draws what `shapes_in` finds in a prompt. Reference pictures are not looked at."""

    name = "demo"
    typical_cost = 0.0

    async def generate(
        self, prompt: str, size: ImageSize, references: Sequence[ReferencePicture] = ()
    ) -> GeneratedImage:
        width, height = SIZES[size]
        shapes = shapes_in(prompt)
        scene = {
            "width": width,
            "height": height,
            "shapes": [asdict(shape) for shape in shapes],
            "night": bool({"moon", "star"}.intersection(shape.kind for shape in shapes)),
            "seed": prompt,
        }
        try:
            data = await run_worker("agent.models.demo_image_worker", json.dumps(scene).encode(), seconds=TIMEOUT)
        except (WorkerFailed, TimeoutError, OSError) as error:
            raise ModelError("server", "The demo could not draw it. Please try again.") from error
        return GeneratedImage(data, size=f"{width}x{height}", revised_prompt=described(shapes))


def shapes_in(prompt: str) -> list[Shape]:
    """What is drawn for a prompt: the things that have a shape, with the color and the number before their word, and
    what belongs to them: boats and fish are in the sea, and the moon and stars are in the sky at night."""
    found: dict[str, Shape] = {}
    color, count = "", 0
    for word in re.findall(r"[^\W_]+", prompt.lower()):
        kind = next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(word)), None)
        if kind is not None:
            several = 3 if word.endswith("s") or word in _MANY else 1
            known = found.get(kind, Shape(kind))
            found[kind] = Shape(kind, color or known.color, min(count or max(several, known.count), MAX_COUNT))
            color, count = "", 0
        elif word in _COLORS or word == "gray":
            color = "grey" if word == "gray" else word
        elif word in _NUMBERS or word.isdecimal():
            count = _NUMBERS.index(word) + 1 if word in _NUMBERS else int(word[:3])
    if _NIGHT.search(prompt) and "moon" not in found and "star" not in found:
        found |= {"moon": Shape("moon"), "star": Shape("star", count=3)}
    if "boat" in found or "fish" in found:
        found.setdefault("sea", Shape("sea"))
    return list(found.values())[:MAX_SHAPES]


def described(shapes: Sequence[Shape]) -> str:
    """The shapes in words, each with its color and number."""
    if not shapes:
        return "circles, as none of its words has a shape in the demo"
    return ", ".join(_described(shape) for shape in shapes)


def _described(shape: Shape) -> str:
    plain = f"{shape.color} {shape.kind}".strip()
    return plain if shape.count == 1 else f"{shape.count} × {plain}"  # noqa: RUF001 - the sign for counts
