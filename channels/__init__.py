"""Chat platforms: one folder per platform, each with the same file names for the same jobs.

- `channel.py`: the `Channel` that the gateway talks to (see `channels.channel`).
- `api.py`: calls through the platform's SDK, its errors translated, its limits.
- `parse.py`: platform event → `InboundMessage`. Pure.
- `render.py`: `Reply` → platform messages. Pure.
- `inbound.py`: receives events and delivers them to the gateway.
- `outbound.py`: `ChatTarget`, which shows a reply in one chat (a `channels.sync.Target`).

`web` and `terminal` are ours, so some of these jobs do not exist there: `web/http_app.py` is the web channel's inbound
side, `terminal/printer.py` the terminal's outbound side.
"""
