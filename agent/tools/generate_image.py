"""The image tool: draws pictures from words and from other pictures, by an image model."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Annotated

import filetype  # type: ignore[import-untyped]  # the package has no types
from pydantic import Field

from agent.files.pictures import UnreadablePicture, scale_for_model
from agent.image_model import GeneratedImage, ImageModel, ImageSize, ReferencePicture
from agent.interrupt import cancel_and_wait
from agent.log import SuggestedReply, Usage
from agent.media import PICTURES, Attachment, MediaError
from agent.model import ModelError
from agent.tool import Tool, ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.media import find_image, store_file

MAX_PROMPT = 8_000
MAX_REFERENCES = 8

PROGRESS_EVERY = 3.0
"""Seconds between two lines of progress."""

VARIATION = "Variation"

Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT, description="What the picture is to show, and how.")]
Size = Annotated[ImageSize, Field(description="The picture's shape.")]
References = Annotated[
    list[str],
    Field(
        max_length=MAX_REFERENCES,
        description="Pictures to change or to draw from: names of pictures sent in the conversation or made before, or "
        "files in the workspace.",
    ),
]
Alt = Annotated[str, Field(max_length=300, description="What it shows, in a few words, for people who cannot see it.")]


async def draw(
    model: ImageModel | None,
    context: ToolContext,
    prompt: Prompt,
    size: Size = "auto",
    references: References = [],  # noqa: B006 - only pydantic sees it, and copies it
    alt: Alt = "",
) -> ToolResult:
    """Draws the picture with this model. Raises `ToolError`."""
    if model is None:
        raise ToolError("No image model is configured.")
    pictures = [await _reference(context, name) for name in references]
    async with _progress(context.progress):
        image = await _generate(model, context, prompt, size, pictures)
    name = _file_name(prompt, image.data)
    picture = await store_file(context, image.data, name)
    if not picture.is_picture:
        raise ToolError("The image model's server sent something that is no picture. Please try again.")
    revised = f" It was drawn from this prompt: {image.revised_prompt}" if image.revised_prompt else ""
    return ToolResult(
        f"The picture {name} was drawn and is shown to the person.{revised}",
        attachments=(picture,),
        images=await _for_model(context, image.data, name),
        caption=alt or _short(prompt),
        suggestions=(SuggestedReply(VARIATION, f"Draw a variation of the picture {name}."),),
        how=_how(model, image),
    )


# External: the prompt and the pictures leave the gateway, and it costs money. It needs no approval before there is
# foreign text: people asked for it, and the limits of spending hold.
@tool(
    effect="external",
    on_steer="cancel",
    timeout=240,
    compensation="The provider may have charged for it.",
)
async def generate_image(
    context: ToolContext,
    prompt: Prompt,
    size: Size = "auto",
    references: References = [],  # noqa: B006 - only pydantic sees it, and copies it
    alt: Alt = "",
) -> ToolResult:
    """Draws a picture from a description, or changes pictures (references). The person sees it at this point of your
    answer; do not repeat it. For charts of data there are better tools.
    """
    return await draw(None, context, prompt, size, references, alt)


def generate_image_with(model: ImageModel) -> Tool:
    """The tool that draws with this model."""
    return replace(generate_image, run=partial(draw, model), cost=model.typical_cost)


async def _generate(
    model: ImageModel, context: ToolContext, prompt: str, size: ImageSize, references: Sequence[ReferencePicture]
) -> GeneratedImage:
    """The picture, whose cost is charged. Nobody knows whether the provider charges for a request that was cancelled or
    timed out, so its typical cost is."""
    try:
        image = await model.generate(prompt, size, references)
    except asyncio.CancelledError:
        _charge_typical(model, context)
        raise
    except ModelError as error:
        if error.kind == "timeout" or error.was_answer:
            _charge_typical(model, context)
        raise ToolError(f"The picture was not drawn. {error}") from error
    context.charge(image.usage, model.name)
    return image


def _charge_typical(model: ImageModel, context: ToolContext) -> None:
    if model.typical_cost:
        context.charge(Usage(cost=model.typical_cost, estimated=True), model.name)


async def _reference(context: ToolContext, name: str) -> ReferencePicture:
    """The picture in a format that image models take."""
    data, name, _ = await find_image(context, name)
    try:
        scaled = await scale_for_model(data)
    except UnreadablePicture as error:
        raise ToolError(f"{name} cannot be used as a picture: {error}") from error
    data = scaled.data or data
    kind = filetype.guess(data[:8192])
    if kind is None:
        raise ToolError(f"{name} cannot be used as a picture: its format is unknown")
    return ReferencePicture(data, f"picture.{kind.extension}", kind.mime)


async def _for_model(context: ToolContext, data: bytes, name: str) -> tuple[Attachment, ...]:
    """The picture as the model is shown it; without it, the model knows what it has asked for."""
    try:
        scaled = await scale_for_model(data)
        return (await context.media.put(scaled.data or data, name),)
    except (UnreadablePicture, MediaError):
        return ()


@asynccontextmanager
async def _progress(show: Callable[[str], Awaitable[None]]) -> AsyncIterator[None]:
    """Says how long it takes, from time to time."""
    showing = asyncio.create_task(_count(show))
    try:
        yield
    finally:
        await cancel_and_wait(showing)


async def _count(show: Callable[[str], Awaitable[None]]) -> None:
    begun = time.monotonic()
    while True:
        await show(f"drawing, {time.monotonic() - begun:.0f} s")
        await asyncio.sleep(PROGRESS_EVERY)


def _how(model: ImageModel, image: GeneratedImage) -> str:
    cost = image.usage.cost
    return ", ".join(
        filter(
            None,
            (
                model.name,
                image.size,
                f"seed {image.seed}" if image.seed else "",
                f"${cost:.2f}" if cost >= 0.01 else f"${cost:.4f}" if cost else "",
            ),
        )
    )


def _file_name(prompt: str, data: bytes) -> str:
    words = re.sub(r"\W+", "-", prompt.lower()).strip("-_")[:40].strip("-_") or "picture"
    mime = filetype.guess_mime(data[:8192])
    suffix = {"image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}.get(
        mime if mime in PICTURES else "", "png"
    )
    # Names are how pictures are found again, so two of the same prompt differ.
    return f"{words}-{hashlib.sha256(data).hexdigest()[:4]}.{suffix}"


def _short(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
