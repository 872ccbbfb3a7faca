"""Prices of well-known image models, used where the settings have none.

The providers' list prices, from https://openai.com/api/pricing and https://ai.google.dev/gemini-api/docs/pricing. The
settings take precedence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.models.prices import MILLION


@dataclass(frozen=True, slots=True)
class ImagePrice:
    """Dollars per million tokens of text and pictures read and of pictures drawn, or else of one `picture`.

    `typical_tokens` are those of a picture of usual size and quality.
    """

    text: float = 0.0
    pictures: float = 0.0
    output: float = 0.0
    typical_tokens: int = 0
    picture: float = 0.0

    def of(self, tokens: ImageTokens) -> float:
        """The cost of one picture, in dollars."""
        if self.picture or not tokens:
            return self.typical
        return (tokens.text * self.text + tokens.pictures * self.pictures + tokens.output * self.output) / MILLION

    @property
    def typical(self) -> float:
        """The approximate cost of one picture, in dollars."""
        return self.picture or self.typical_tokens * self.output / MILLION


@dataclass(frozen=True, slots=True)
class ImageTokens:
    """What a server counts of one picture: tokens of the text and the pictures that it read, and of what it drew."""

    text: int = 0
    pictures: int = 0
    output: int = 0

    def __bool__(self) -> bool:
        return bool(self.text or self.pictures or self.output)


IMAGE_PRICES: Mapping[str, ImagePrice] = {
    "openai:gpt-image-1": ImagePrice(5, 10, 40, 1_056),
    "openai:gpt-image-1-mini": ImagePrice(2, 2.5, 8, 1_056),
    "openai:gpt-image-1.5": ImagePrice(5, 8, 32, 1_056),
    "openai:dall-e-3": ImagePrice(picture=0.04),
    "openai:dall-e-2": ImagePrice(picture=0.02),
    "google:gemini-2.5-flash-image": ImagePrice(0.3, 0.3, 30, 1_290),
    "google:gemini-3-pro-image-preview": ImagePrice(2, 2, 120, 1_120),
}
"""By the model's name in the settings."""
