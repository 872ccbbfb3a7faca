"""What the bodies of requests have in common: earlier calls and their pictures, in forms that every server takes."""

from __future__ import annotations

import json

from agent.gate import json_value
from agent.log import Call
from agent.models.content import ContentPart, LoadedImages, image_content
from agent.models.protocols.call_forms import plain_id, short_id
from agent.models.protocols.reading import stored
from agent.models.protocols.wire import JsonObject, Target
from agent.transcript import Results

PICTURES = "[Pictures from the tool results above]"
"""Before pictures that cannot be in the results themselves."""


def id_of(call: Call, target: Target) -> str:
    return plain_id(call.id) if target.takes("long_call_ids") else short_id(call.id)


def arguments_object(call: Call) -> JsonObject:
    value = json_value(stored(call.arguments))
    return value if isinstance(value, dict) else _not_valid(call)


def arguments_json(call: Call) -> str:
    """The arguments as valid JSON: servers parse those in the history and reject the whole request if they cannot."""
    return call.arguments if isinstance(stored(call.arguments), dict) else json.dumps(_not_valid(call))


def _not_valid(call: Call) -> JsonObject:
    return {"not_valid_json": call.arguments} if call.arguments else {}


def pictures_of(results: Results, images: LoadedImages) -> list[ContentPart]:
    return image_content((image for result in results.results for image in result.images), images)
