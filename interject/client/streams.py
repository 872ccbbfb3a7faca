"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as far as the gateway uses
them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from interject.client.models import Event


class EventReader:
    """Lines in, events out. `last_id` is where a new stream goes on."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._data: list[str] = []

    def take(self, line: str) -> Iterator[Event]:
        """The event that ends with this line, if one does."""
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self.last_id = value
        elif name == "data":
            self._data.append(value)
        elif not line and self._data:
            data = json.loads("\n".join(self._data))
            self._data.clear()
            yield Event.model_validate({**data, "id": self.last_id, "data": data})
