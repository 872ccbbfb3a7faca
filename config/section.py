"""Base of all sections: the model of a table, helpers that report errors, and types of values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from config.errors import Fault


class Section(BaseModel):
    """A table of settings. Unknown names and wrong types are errors; error messages never contain values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """Its settings, in display order."""
        return cls.model_fields

    @property
    def credentials(self) -> Iterator[SecretStr]:
        """What is secret within the text of its settings, as in an address."""
        return iter(())


def wrong(explanation: str, **context: object) -> PydanticCustomError:
    """A validation error with this explanation. `at` in the context moves it to another key."""
    return PydanticCustomError("wrong", "{explanation}", {"explanation": explanation, **context})


def refuse(faults: Iterable[Fault]) -> None:
    """Raises all faults at once, if there are any. Their keys are complete paths."""
    errors = [InitErrorDetails(type=wrong(fault.wrong, at=fault.key), input=None) for fault in faults]
    if errors:
        raise ValidationError.from_exception_data("settings", errors)


def refuse_entries(wrong_ones: Iterable[int | str], explanation: str) -> None:
    """Raises if there are wrong entries in the list or table under validation."""
    errors = [InitErrorDetails(type=wrong(explanation), loc=(entry,), input=None) for entry in wrong_ones]
    if errors:
        raise ValidationError.from_exception_data("settings", errors)


def _web_address(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]\S*", text):
        raise wrong("expected a URL that begins with http:// or https://")
    return text


def _socket_address(text: str) -> str:
    if not re.fullmatch(r"wss?://[^\s/]\S*", text):
        raise wrong("expected a URL that begins with ws:// or wss://")
    return text


def _variable_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise wrong("expected the name of an environment variable")
    return text


WebAddress = Annotated[str, AfterValidator(_web_address)]
SocketAddress = Annotated[str, AfterValidator(_socket_address)]
VariableName = Annotated[str, AfterValidator(_variable_name)]
Secret = Annotated[SecretStr, Field(min_length=1)]
PathText = Annotated[Path, Field(strict=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
