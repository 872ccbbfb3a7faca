"""Keys of this API: made, listed and revoked by admins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.api.caller import Admin
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.store.api_keys import MAX_NAME_LENGTH
from gateway.store.records import ApiKey, ApiKeyScope

MAX_DAYS = 10 * 365
MAX_PATTERNS = 100

Pattern = Annotated[str, Field(min_length=1, max_length=500)]


class Key(BaseModel):
    """`agents` and `conversations` are patterns of all that it may use, null for any. `used_at` is exact to a
    minute."""

    id: str
    name: str
    scope: ApiKeyScope
    state: Literal["valid", "expired", "revoked"]
    agents: list[str] | None
    conversations: list[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    used_at: datetime | None


class Keys(BaseModel):
    keys: list[Key]


class NewKey(BaseModel, extra="forbid"):
    """`days`: how long it is valid; null: until it is revoked."""

    name: str = Field(min_length=1, max_length=MAX_NAME_LENGTH)
    scope: ApiKeyScope = "chat"
    agents: list[Pattern] | None = Field(default=None, max_length=MAX_PATTERNS)
    conversations: list[Pattern] | None = Field(default=None, max_length=MAX_PATTERNS)
    days: int | None = Field(default=None, ge=1, le=MAX_DAYS)


class KeyWithSecret(BaseModel):
    """The secret is in this answer only."""

    key: Key
    secret: str


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["keys"])

    @routes.get("/keys")
    async def list_keys(caller: Admin) -> Keys:
        """The oldest first, also those that are worth nothing any more."""
        return Keys(keys=[_key(each) for each in await gateway.store.api_keys()])

    @routes.post("/keys", status_code=201)
    async def create_key(caller: Admin, wanted: NewKey) -> KeyWithSecret:
        """Makes a key. Its secret is told once."""
        until = None if wanted.days is None else datetime.now(UTC) + timedelta(days=wanted.days)
        try:
            new = await gateway.store.create_api_key(
                wanted.name,
                wanted.scope,
                agents=wanted.agents,
                conversations=wanted.conversations,
                expires_at=until,
                by=caller.actor,
                by_name=caller.sender.name,
            )
        except ValueError as error:
            raise Problem(422, "invalid_request", f"name: {error}") from error
        gateway.keys.forget()
        return KeyWithSecret(key=_key(new.key), secret=new.secret)

    @routes.delete("/keys/{key}", status_code=204)
    async def revoke_key(caller: Admin, key: str) -> None:
        """What the key has running is stopped."""
        if not await gateway.revoke_key(key, caller.actor, caller.sender.name):
            raise Problem(404, "key_not_found", "There is no valid key with this id.")

    return routes


def _key(key: ApiKey) -> Key:
    return Key(
        id=key.id,
        name=key.name,
        scope=key.scope,
        state=key.state(datetime.now(UTC)),
        agents=None if key.agents is None else list(key.agents),
        conversations=None if key.conversations is None else list(key.conversations),
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        used_at=key.used_at,
    )
