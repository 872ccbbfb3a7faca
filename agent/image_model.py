"""Image models: one coroutine that draws a picture from words, and from other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from agent.log import Usage

ImageSize = Literal["auto", "square", "landscape", "portrait"]
"""The shape of a picture; each model makes its own number of pixels of it. "auto": the model decides."""


@dataclass(frozen=True, slots=True)
class ReferencePicture:
    """A picture that the new one is made from, as PNG, JPEG or WebP."""

    data: bytes
    name: str
    media_type: str


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """A picture, as the bytes of a file. `usage` has its cost. `size` is what the model was asked for ("1024x1024"),
    `seed` and `revised_prompt` are what it says of how it was made; "" where it says nothing."""

    data: bytes
    usage: Usage = field(default_factory=Usage)
    size: str = ""
    seed: str = ""
    revised_prompt: str = ""


class ImageModel(Protocol):
    @property
    def name(self) -> str:
        """Its name in the settings, like "openai:gpt-image-1"."""

    @property
    def typical_cost(self) -> float:
        """What a picture costs in dollars, approximately; 0 if its price is not known."""

    async def generate(
        self, prompt: str, size: ImageSize, references: Sequence[ReferencePicture] = ()
    ) -> GeneratedImage:
        """Draws a picture. Raises `agent.model.ModelError` with a message for people. Cancelling ends the request at
        once."""
