"""Chat platforms: one folder per platform, each with the same file names for the same jobs.

- `channel.py`: the `Channel` that the gateway talks to (see `channels.channel`).
- `api.py`: calls through the platform's SDK, its errors translated, its limits.
- `parse.py`: platform event → `InboundMessage`. Pure.
- `render.py`: `Reply` → platform messages. Pure.
- `inbound.py`: receives events and delivers them to the gateway.
- `outbound.py`: `ChatTarget`, which shows a reply in one chat (a `channels.sync.Target`).

`web` and `terminal` are ours, so some of these jobs do not exist there: the page in `web/page` looks at conversations
through the HTTP API of the gateway, as every program does, and so does a terminal beside a running gateway
(`terminal/remote.py`); `terminal/printer.py` is the terminal's outbound side.
"""
