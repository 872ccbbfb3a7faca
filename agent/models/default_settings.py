"""Default settings: a model wrapper that fills in what requests leave open."""

from __future__ import annotations

from dataclasses import replace

from agent.events import OnDelta
from agent.model import Answer, Model, ModelSettings, Request


class DefaultSettingsModel:
    """Asks with these settings where a request has none of its own."""

    def __init__(self, model: Model, settings: ModelSettings) -> None:
        self._model = model
        self._settings = settings

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        return await self._model.answer(replace(request, settings=request.settings.over(self._settings)), on_delta)
