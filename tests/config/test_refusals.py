import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.errors import ConfigurationError
from config.load import load
from tests.config.conftest import Operator

ALL_TOOLS = (
    "shell, read_file, write_file, edit_file, list_files, fetch_url, draw_chart, send_file, view_image, ask_user, "
    "todos, delegate, background, schedule, memory, run_python, generate_image, web_search"
)
HOOK = '[[hooks]]\nname = "review"\npoints = ["before_tool"]\n'
PYTHON = f'{HOOK}type = "python"\npath = "a:A"\n'
HTTP = f'{HOOK}type = "http"\nurl = "http://127.0.0.1:1"\nsecret = "s"\n'

IN_THE_FILE: dict[str, tuple[str, ...]] = {
    "a mistyped key": (
        '[channels.telegram]\ntoken = "1:a"\ntokn = "x"\n',
        'interject.toml:3: channels.telegram.tokn: no such setting. Did you mean "token"?',
    ),
    "an unknown key without a similar one": (
        "[media]\nbucket = 1\n",
        "interject.toml:2: media.bucket: no such setting. Known: path, url, cache_bytes.",
    ),
    "a mistyped section": (
        "# first\n\n[agnt]\nmax_steps = 3\n",
        'interject.toml:3: agnt: no such setting. Did you mean "agent"?',
    ),
    "a setting outside its section": (
        "max_steps = 3\n",
        'interject.toml:1: max_steps: no such setting. Did you mean "agent.max_steps"?',
    ),
    "a channel outside channels": (
        '[telegram]\ntoken = "1:a"\n',
        'interject.toml:1: telegram: no such setting. Did you mean "channels.telegram"?',
    ),
    "a webhook's secret that is not base64": (
        '[[webhooks]]\nurl = "https://example.com"\nsecret = "whsec_?"\nevents = ["run.ended"]\n',
        'interject.toml:3: webhooks[0].secret: what follows "whsec_" is not base64',
    ),
    "a strange key": (
        '"a b.c" = 1\n',
        'interject.toml:1: "a b.c": no such setting. Known: agent, models, store, media, web, channels, agents, '
        "routes, roles, hooks, webhooks, tools, skills, mcp, limits, safety, retention, logging, metrics, telemetry.",
    ),
    "an unknown provider's section": (
        '[models.opnai]\napi_key = "x"\n',
        'interject.toml:1: models.opnai: unknown provider. Did you mean "openai"? Another server needs type = "openai" '
        "and base_url",
    ),
    "an unknown type of channel": (
        "[channels.telegrm]\n",
        'interject.toml:1: channels.telegrm: unknown channel type. Did you mean "telegram"? '
        "In a section with another name, set type = …",
    ),
    "an unknown type given": (
        '[channels.work]\ntype = "irc"\n',
        "interject.toml:1: channels.work: unknown channel type. Known: telegram, slack, discord. "
        "In a section with another name, set type = …",
    ),
    "a type that is not text": (
        "[channels.work]\ntype = [1]\n",
        "interject.toml:1: channels.work: unknown channel type. Known: telegram, slack, discord. "
        "In a section with another name, set type = …",
    ),
    "a channel that is not a section": (
        "[channels]\ntelegram = true\n",
        "interject.toml:2: channels.telegram: expected a section, not a single value",
    ),
    "channels that are not a section": (
        "channels = 1\n",
        "interject.toml:1: channels: expected a section, not a single value",
    ),
    "an agent with the name of the first one": (
        "[agents.main]\n",
        "interject.toml:1: agents.main: main is the agent of [agent]. Choose another name",
    ),
    "an agent with the name of no choice": (
        "[agents.default]\n",
        "interject.toml:1: agents.default: `/agent default` undoes a choice. Choose another name",
    ),
    "an agent with a name that nobody can type": (
        '[agents."My Agent"]\n',
        'interject.toml:1: agents."My Agent": expected a name of up to 32 lower-case letters, digits, "-" and "_"',
    ),
    "an MCP server with a name that separates nothing": (
        '[mcp.my_docs]\nurl = "https://docs.example.com"\n',
        'interject.toml:1: mcp.my_docs: expected a name of up to 24 lower-case letters, digits and "-"',
    ),
    "a variable of an MCP server that cannot be one": (
        '[mcp.docs]\ncommand = ["docs"]\nvariables = { 1A = "x" }\n',
        "interject.toml:3: mcp.docs.variables.1A: expected the name of an environment variable",
    ),
    "a delegate that does not exist": (
        '[agents.red]\ndelegates = ["blue"]\n',
        "interject.toml:2: agents.red.delegates[0]: there is no agent of this name in [agents]: main, red",
    ),
    "a route to nobody": (
        '[[routes]]\nagent = "red"\nchannel = "web"\n',
        "interject.toml:2: routes[0].agent: there is no agent of this name: main",
    ),
    "a route without a condition": (
        '[[routes]]\nagent = "main"\n',
        "interject.toml:1: routes[0]: needs a condition: channel, chat, thread, person or role",
    ),
    "a route for a thread of any chat": (
        '[[routes]]\nagent = "main"\nthread = "7"\n',
        "interject.toml:3: routes[0].thread: needs chat, the chat that the thread is in",
    ),
    "a route for a name": (
        '[[routes]]\nagent = "main"\nperson = "@ann"\n',
        "interject.toml:3: routes[0].person: expected the platform's id of the person: names can change",
    ),
    "a route for a channel that does not exist": (
        '[[routes]]\nagent = "main"\nchannel = "slack"\n',
        "interject.toml:3: routes[0].channel: there is no channel of this name: terminal, web",
    ),
    "a section that is a value": (
        "agent = 5\n",
        "interject.toml:1: agent: expected a section, not a single value",
    ),
    "a missing token": (
        "[web]\n[channels.telegram]\n",
        "interject.toml:2: channels.telegram.token: is missing",
    ),
    "an empty token": (
        '[channels.telegram]\ntoken = ""\n',
        "interject.toml:2: channels.telegram.token: is empty",
    ),
    "text for a number": (
        '[agent]\nmax_steps = "many"\n',
        "interject.toml:2: agent.max_steps: expected a whole number",
    ),
    "a quoted number": (
        '[agent]\nmax_steps = "5"\n',
        "interject.toml:2: agent.max_steps: expected a whole number",
    ),
    "a boolean for a number": (
        "[agent]\nmax_steps = true\n",
        "interject.toml:2: agent.max_steps: expected a whole number",
    ),
    "a fraction for a number": (
        "[web]\nport = 80.5\n",
        "interject.toml:2: web.port: expected a whole number",
    ),
    "a number for a boolean": (
        "[web]\nenabled = 1\n",
        "interject.toml:2: web.enabled: expected true or false",
    ),
    "a number for text": (
        "[agent]\ninstructions = 1\n",
        "interject.toml:2: agent.instructions: expected text in quotes",
    ),
    "a number for a secret": (
        "[channels.telegram]\ntoken = 1234567\n",
        "interject.toml:2: channels.telegram.token: expected text in quotes",
    ),
    "media in an unknown place": (
        '[media]\nurl = "ftp://x/y"\n',
        "interject.toml:2: media.url: expected file:///PATH for a folder, or s3://BUCKET/PREFIX for a bucket",
    ),
    "media in a folder that is relative": (
        '[media]\nurl = "file://media"\n',
        "interject.toml:2: media.url: expected file:///PATH for a folder, or s3://BUCKET/PREFIX for a bucket",
    ),
    "a bucket with a name that none has": (
        '[media]\nurl = "s3://My_Bucket"\n',
        "interject.toml:2: media.url: expected s3://BUCKET or s3://BUCKET/PREFIX, with the name of a bucket in "
        "lower-case letters",
    ),
    "a prefix that leaves the bucket": (
        '[media]\nurl = "s3://bucket/../other"\n',
        "interject.toml:2: media.url: expected a prefix of letters, digits and -_.!*'(), like s3://BUCKET/interject/media",
    ),
    "an access key without its secret": (
        '[media]\nurl = "s3://bucket"\n[media.s3]\naccess_key_id = "A"\n',
        "interject.toml:3: media.s3: access_key_id and secret_access_key belong together: set both, or none",
    ),
    "a number for a path": (
        "[media]\npath = 1\n",
        "interject.toml:2: media.path: expected a path in quotes",
    ),
    "text for a list": (
        '[tools]\nenabled = "shell"\n',
        'interject.toml:2: tools.enabled: expected a list, like ["…"]',
    ),
    "a number that is too small": (
        "[agent]\nmax_steps = 0\n",
        "interject.toml:2: agent.max_steps: expected 1 or more",
    ),
    "no turn of all workers": (
        "[agent]\nmax_running_turns_total = 0\n",
        "interject.toml:2: agent.max_running_turns_total: expected 1 or more",
    ),
    "fewer turns of all workers than none": (
        "[agent]\nmax_running_turns_total = -1\n",
        "interject.toml:2: agent.max_running_turns_total: expected 1 or more",
    ),
    "a number that is too large": (
        "[web]\nport = 65536\n",
        "interject.toml:2: web.port: expected 65535 or less",
    ),
    "a mistyped tool": (
        '[tools]\nenabled = [\n  "shell",\n  "read_fil",\n]\n',
        'interject.toml:2: tools.enabled[1]: not one of the choices. Did you mean "read_file"?',
    ),
    "an unknown tool": (
        '[tools]\nenabled = ["teleport"]\n',
        f"interject.toml:2: tools.enabled[0]: not one of the choices. Known: {ALL_TOOLS}.",
    ),
    "an unknown choice": (
        '[channels.telegram]\ntoken = "1:a"\ngroups = "some"\n',
        "interject.toml:3: channels.telegram.groups: not one of the choices. Known: mention, all, off.",
    ),
    "a user without @": (
        '[channels.telegram]\ntoken = "1:a"\nallow = ["*", "ann"]\n',
        'interject.toml:3: channels.telegram.allow[1]: expected a user id, a name that begins with @, or "*"',
    ),
    "a user that is a boolean": (
        '[channels.telegram]\ntoken = "1:a"\nallow = [true]\n',
        "interject.toml:3: channels.telegram.allow[0]: expected text in quotes",
    ),
    "another platform's user": (
        '[channels.slack]\nbot_token = "b"\napp_token = "a"\nallow = ["*", "@ann.b", "U012AB3CD", 42]\n',
        "interject.toml:4: channels.slack.allow[3]: expected a member id like U012AB3CD, a user group id like "
        'S012AB3CD, a name that begins with @, or "*"',
    ),
    "a role as a Discord user": (
        '[channels.discord]\ntoken = "d"\nallow = ["everyone"]\n',
        "interject.toml:3: channels.discord.allow[0]: expected a user id, a role like role:NAME or role:ID, a name "
        'that begins with @, or "*"',
    ),
    "everybody as admin": (
        '[channels.telegram]\ntoken = "1:a"\nadmins = [7, "@ann", "*"]\n',
        "interject.toml:3: channels.telegram.admins[2]: expected a user id or a name that begins with @",
    ),
    "Slack without a way in": (
        '[web]\n[channels.slack]\nbot_token = "b"\n',
        "interject.toml:2: channels.slack: needs app_token (Socket Mode) or signing_secret (HTTP through the web "
        "server)",
    ),
    "a proxy of Discord by name": (
        '[channels.discord]\ntoken = "t"\nproxies = ["PluralKit"]\n',
        "interject.toml:3: channels.discord.proxies: 'PluralKit' is not the id of an application: expected digits only",
    ),
    "Slack with two ways in": (
        '[channels.slack]\nbot_token = "b"\napp_token = "a"\nsigning_secret = "s"\n',
        "interject.toml:4: channels.slack.signing_secret: cannot be combined with app_token. Keep app_token for "
        "Socket Mode, or signing_secret for HTTP",
    ),
    "a webhook of Telegram without a web server": (
        '[web]\nenabled = false\n[channels.telegram]\ntoken = "1:a"\nwebhook_url = "https://bot.example.org"\n',
        "interject.toml:5: channels.telegram.webhook_url: needs the web server. Remove enabled = false from [web], or "
        "remove this setting: messages are polled then",
    ),
    "Slack over HTTP without a web server": (
        '[web]\nenabled = false\n[channels.work]\ntype = "slack"\nbot_token = "b"\nsigning_secret = "s"\n',
        "interject.toml:6: channels.work.signing_secret: needs the web server. Remove enabled = false from [web], or "
        "use app_token (Socket Mode)",
    ),
    "Slack's tokens under Telegram's name": (
        '[channels.slack]\ntoken = "b"\napp_token = "a"\n',
        "interject.toml:1: channels.slack.bot_token: is missing",
        'interject.toml:2: channels.slack.token: no such setting. Did you mean "bot_token"?',
    ),
    "a gateway without a socket URL": (
        '[channels.discord]\ntoken = "d"\ngateway_url = "https://127.0.0.1"\n',
        "interject.toml:3: channels.discord.gateway_url: expected a URL that begins with ws:// or wss://",
    ),
    "an unknown busy mode": (
        '[channels.discord]\ntoken = "d"\nbusy = "que"\n',
        'interject.toml:3: channels.discord.busy: not one of the choices. Did you mean "queue"?',
    ),
    "a channel's model without provider": (
        '[channels.telegram]\ntoken = "1:a"\nmodel = "gpt-5"\n',
        'interject.toml:3: channels.telegram.model: expected "demo" or "provider:name", like "openai:gpt-5"',
    ),
    "channels' models without keys": (
        '[channels.telegram]\ntoken = "1:a"\nmodel = "openai:gpt-5"\n'
        '[channels.discord]\ntoken = "d"\nmodel = "anthropic:claude"\n',
        "interject.toml:3: channels.telegram.model: openai needs an API key. Set the environment variable "
        "OPENAI_API_KEY, or api_key in [models.openai]",
        "interject.toml:6: channels.discord.model: anthropic needs an API key. Set the environment variable "
        "ANTHROPIC_API_KEY, or api_key in [models.anthropic]",
    ),
    "a channel with the name of a built-in one": (
        '[channels.web]\ntype = "discord"\ntoken = "d"\n',
        "interject.toml:1: channels.web: web is a built-in channel. Choose another name",
    ),
    "the demo as a fallback": (
        '[agent]\nfallback = ["demo"]\n',
        'interject.toml:2: agent.fallback[0]: expected "provider:name", like "openai:gpt-5"',
    ),
    "a fallback without provider": (
        '[agent]\nfallback = ["gpt-5"]\n',
        'interject.toml:2: agent.fallback[0]: expected "provider:name", like "openai:gpt-5"',
    ),
    "a fallback that is not a list": (
        '[agent]\nfallback = "openai:gpt-5"\n',
        'interject.toml:2: agent.fallback: expected a list, like ["…"]',
    ),
    "fallbacks that are listed twice": (
        '[agent]\nmodel = "openai:a"\nfallback = ["openai:b", "openai:a", "openai:b"]\n'
        '[models.openai]\napi_key = "k"\n',
        "interject.toml:3: agent.fallback[1]: is already listed: each model may appear only once",
        "interject.toml:3: agent.fallback[2]: is already listed: each model may appear only once",
    ),
    "a fallback without key": (
        '[agent]\nmodel = "openai:a"\nfallback = ["openai:b", "anthropic:c"]\n[models.openai]\napi_key = "k"\n',
        "interject.toml:3: agent.fallback[1]: anthropic needs an API key. Set the environment variable "
        "ANTHROPIC_API_KEY, or api_key in [models.anthropic]",
    ),
    "a first-token timeout of zero": (
        "[models.openai]\nfirst_token_timeout = 0\n",
        "interject.toml:2: models.openai.first_token_timeout: expected 1 or more",
    ),
    "a silence timeout that is not a whole number": (
        "[models.anthropic]\nsilence_timeout = 0.5\n",
        "interject.toml:2: models.anthropic.silence_timeout: expected a whole number",
    ),
    "a transcription model of another provider": (
        '[agent]\ntranscription_model = "anthropic:claude"\n',
        "interject.toml:2: agent.transcription_model: anthropic needs an API key. Set the environment variable "
        "ANTHROPIC_API_KEY, or api_key in [models.anthropic]",
    ),
    "a transcription model of a provider that cannot have one": (
        '[agent]\ntranscription_model = "anthropic:claude"\n[models.anthropic]\napi_key = "k"\n',
        "interject.toml:2: agent.transcription_model: needs a provider of the type openai",
    ),
    "a transcription model without key": (
        '[agent]\ntranscription_model = "openai:whisper-1"\n',
        "interject.toml:2: agent.transcription_model: openai needs an API key. Set the environment variable "
        "OPENAI_API_KEY, or api_key in [models.openai]",
    ),
    "a notification at zero queued messages": (
        "[agent]\ntell_when_waiting = 0\n",
        "interject.toml:2: agent.tell_when_waiting: expected 1 or more",
    ),
    "a URL with another scheme": (
        '[models.openai]\nbase_url = "localhost:80"\n',
        "interject.toml:2: models.openai.base_url: expected a URL that begins with http:// or https://",
    ),
    "a database of another kind": (
        '[store]\nurl = "mysql://x"\n',
        "interject.toml:2: store.url: expected a database URL, like sqlite:///interject.db or "
        "postgresql://user:password@host/database",
    ),
    "a database in memory": (
        '[store]\nurl = "sqlite:///:memory:"\n',
        "interject.toml:2: store.url: expected a database URL, like sqlite:///interject.db or "
        "postgresql://user:password@host/database",
    ),
    "a model without provider": (
        '[agent]\nmodel = "gpt-5"\n',
        'interject.toml:2: agent.model: expected "demo" or "provider:name", like "openai:gpt-5"',
    ),
    "an unknown provider": (
        '[agent]\nmodel = "zork:llama"\n',
        "interject.toml:2: agent.model: unknown provider. Known: openai, anthropic, google, openrouter, groq, "
        "deepseek, mistral, xai, together, fireworks, azure, ollama, lmstudio, vllm, llamacpp. Another server needs a "
        "section [models.<name>] with type and base_url",
    ),
    "mistyped providers": (
        '[agent]\nmodel = "openruoter:anthropic/claude"\nfallback = ["wrok:llama"]\n'
        '[models.work]\ntype = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n',
        'interject.toml:2: agent.model: unknown provider. Did you mean "openrouter"? Another server needs a section '
        "[models.<name>] with type and base_url",
        'interject.toml:3: agent.fallback[0]: unknown provider. Did you mean "work"? Another server needs a section '
        "[models.<name>] with type and base_url",
    ),
    "a provider without a server": (
        '[models.work]\ntype = "openai"\n[models.azure]\n[models.groq]\ntype = "anthropic"\n[models.demo]\n',
        "interject.toml:1: models.work.base_url: is missing",
        "interject.toml:3: models.azure.base_url: is missing",
        "interject.toml:4: models.groq.base_url: is missing",
        'interject.toml:6: models.demo: expected another name: a provider\'s name has no colon, and is not "demo"',
    ),
    "a model at a provider without a server": (
        '[agent]\nmodel = "azure:gpt-5"\n',
        "interject.toml:2: agent.model: azure needs base_url in [models.azure]",
    ),
    "a deployment without a version": (
        '[models.azure]\nbase_url = "https://a.openai.azure.com/openai/deployments/b"\n',
        'interject.toml:1: models.azure.query: needs { api-version = "…" } with a base_url of a deployment',
    ),
    "an unknown protocol": (
        '[models.work]\ntype = "grpc"\nbase_url = "http://127.0.0.1:1"\n',
        "interject.toml:2: models.work.type: not one of the choices. Known: openai, openai-responses, anthropic.",
    ),
    "keys that are none": (
        '[models.openai]\napi_key = ""\n[models.groq]\napi_key = []\n[models.xai]\napi_key = 5\n'
        '[models.mistral]\napi_key = ["k", ""]\n',
        "interject.toml:2: models.openai.api_key: is empty",
        "interject.toml:4: models.groq.api_key: is empty",
        'interject.toml:6: models.xai.api_key: expected text in quotes, or a list, like ["…", "…"]',
        "interject.toml:8: models.mistral.api_key[1]: is empty",
    ),
    "a mistyped setting of a provider": (
        '[models.openai]\napi_kye = "k"\n',
        'interject.toml:2: models.openai.api_kye: no such setting. Did you mean "api_key"?',
    ),
    "a mistyped setting of a model": (
        '[models.ollama."qwen3:8b"]\ntemprature = 1\n',
        'interject.toml:2: models.ollama."qwen3:8b".temprature: no such setting. Did you mean "temperature"?',
    ),
    "invalid parameters": (
        "[agent]\ntemperature = 3\nmax_tokens = 0\nreasoning = 'much'\ntop_p = 0\n"
        "[models.openai.a]\nreasoning = -1\ncontext_window = 100\nvision = 'yes'\n",
        "interject.toml:2: agent.temperature: expected 2 or less",
        "interject.toml:3: agent.max_tokens: expected 1 or more",
        'interject.toml:4: agent.reasoning: expected one of "off", "minimal", "low", "medium", "high", "max", or a '
        "number of tokens",
        "interject.toml:5: agent.top_p: expected more than 0",
        'interject.toml:7: models.openai.a.reasoning: expected one of "off", "minimal", "low", "medium", "high", '
        '"max", or a number of tokens',
        "interject.toml:8: models.openai.a.context_window: expected 4000 or more",
        "interject.toml:9: models.openai.a.vision: expected true or false",
    ),
    "a model without key": (
        '[agent]\nmodel = "anthropic:claude"\n[models.anthropic]\n',
        "interject.toml:2: agent.model: anthropic needs an API key. Set the environment variable "
        "ANTHROPIC_API_KEY, or api_key in [models.anthropic]",
    ),
    "a small model without provider": (
        '[agent]\nsmall_model = "gpt-5-mini"\nrouting = true\n',
        'interject.toml:2: agent.small_model: expected "demo" or "provider:name", like "openai:gpt-5"',
    ),
    "a small model without key": (
        '[agent]\nsmall_model = "openai:gpt-5-mini"\n',
        "interject.toml:2: agent.small_model: openai needs an API key. Set the environment variable "
        "OPENAI_API_KEY, or api_key in [models.openai]",
    ),
    "web search at another provider": (
        '[models.openai]\napi_key = "k"\nweb_search = true\n',
        "interject.toml:3: models.openai.web_search: only available with type anthropic or openai-responses",
    ),
    "state at a server that keeps none": (
        '[models.openai]\napi_key = "k"\nkeeps_state = true\n',
        "interject.toml:3: models.openai.keeps_state: only available with type openai-responses",
    ),
    "routing without a small model": (
        "[agent]\nrouting = true\n",
        "interject.toml:2: agent.routing: needs small_model",
    ),
    "a context window that is too small": (
        "[agent]\ncontext_window = 3999\n",
        "interject.toml:2: agent.context_window: expected 4000 or more, or 0 for the known window of the model",
    ),
    "a negative context window": (
        "[agent]\ncontext_window = -1\n",
        "interject.toml:2: agent.context_window: expected 4000 or more, or 0 for the known window of the model",
    ),
    "a negative shutdown grace": (
        "[agent]\nshutdown_grace = -1\n",
        "interject.toml:2: agent.shutdown_grace: expected 0 or more",
    ),
    "a price without output": (
        "[models.openai.gpt-5]\nprice = { input = 1.25 }\n",
        "interject.toml:2: models.openai.gpt-5.price.output: is missing",
    ),
    "invalid prices": (
        '[models.openai."gpt-4.1".price]\ninput = -1\noutput = nan\ncache_read = "free"\ncache_write = inf\n',
        'interject.toml:2: models.openai."gpt-4.1".price.input: expected 0 or more',
        'interject.toml:3: models.openai."gpt-4.1".price.output: expected a number',
        'interject.toml:4: models.openai."gpt-4.1".price.cache_read: expected a number',
        'interject.toml:5: models.openai."gpt-4.1".price.cache_write: expected a number',
    ),
    "a mistyped price": (
        "[models.openai.gpt-5.price]\ninput = 1\noutput = 2\ncached = 3\n",
        'interject.toml:4: models.openai.gpt-5.price.cached: no such setting. Did you mean "cache_read"?',
    ),
    "a price that is one number": (
        "[models.openai.gpt-5]\nprice = 3\n",
        "interject.toml:2: models.openai.gpt-5.price: expected a section, not a single value",
    ),
    "an unknown activity": (
        '[channels.telegram]\ntoken = "1:a"\nactivity = "loud"\nshow_reasoning = "no"\n',
        "interject.toml:3: channels.telegram.activity: not one of the choices. Known: off, quiet, full.",
        "interject.toml:4: channels.telegram.show_reasoning: expected true or false",
    ),
    "tool activity in the browser": (
        '[web]\nactivity = "full"\n',
        'interject.toml:2: web.activity: no such setting. Did you mean "channels.telegram.activity"?',
    ),
    "a mistyped tool's section": (
        "[tools]\n[tools.shel]\naproval = 1\n",
        'interject.toml:2: tools.shel: no such setting. Did you mean "shell"?',
    ),
    "a mistyped list of tools": (
        '[tools]\nenabld = ["shell"]\n',
        'interject.toml:2: tools.enabld: no such setting. Did you mean "enabled"?',
    ),
    "a tool's setting beside the tools": (
        '[tools]\napproval = "once"\n',
        'interject.toml:2: tools.approval: no such setting. Did you mean "tools.shell.approval"?',
    ),
    "a mistyped setting of a tool": (
        '[tools.shell]\naproval = "once"\n',
        'interject.toml:2: tools.shell.aproval: no such setting. Did you mean "approval"?',
    ),
    "a tool that is not a section": (
        "[tools]\nshell = true\n",
        "interject.toml:2: tools.shell: expected a section, not a single value",
    ),
    "invalid rules for a tool": (
        '[tools.shell]\napproval = "sometimes"\non_steer = "stop"\ntimeout = 0\n',
        "interject.toml:2: tools.shell.approval: not one of the choices. Known: never, once, always.",
        "interject.toml:3: tools.shell.on_steer: not one of the choices. Known: cancel, finish, background.",
        "interject.toml:4: tools.shell.timeout: expected 1 or more",
    ),
    "approval of a question": (
        '[tools.ask_user]\non_steer = "cancel"\napproval = "once"\n',
        "interject.toml:2: tools.ask_user.on_steer: not available for ask_user: a question is not executed, it "
        "waits for an answer",
        "interject.toml:3: tools.ask_user.approval: not available for ask_user: a question is not executed, it "
        "waits for an answer",
    ),
    "an approval that expires at once": (
        "[tools]\napproval_expires = 0\n",
        "interject.toml:2: tools.approval_expires: expected 1 or more",
    ),
    "invalid limits": (
        "[limits]\nturn_cost = 0\nperson_daily_cost = -1\ndaily_cost = inf\ndelegate_depth = -1\n"
        "delegate_running = 0\n",
        "interject.toml:2: limits.turn_cost: expected more than 0",
        "interject.toml:3: limits.person_daily_cost: expected more than 0",
        "interject.toml:4: limits.daily_cost: expected a number",
        "interject.toml:5: limits.delegate_depth: expected 0 or more",
        "interject.toml:6: limits.delegate_running: expected 1 or more",
    ),
    "a mistyped limit": (
        "[limits]\nturn_costs = 1\n",
        'interject.toml:2: limits.turn_costs: no such setting. Did you mean "turn_cost"?',
    ),
    "hooks that are one section": (
        '[hooks]\nname = "review"\n',
        "interject.toml:1: hooks: expected a list of sections: [[hooks]] in the file, or JSON in INTERJECT_HOOKS",
    ),
    "a hook that is not a section": (
        'hooks = ["review"]\n',
        "interject.toml:1: hooks[0]: expected a section, not a single value",
    ),
    "a hook without type": (
        f"{PYTHON}{HOOK.replace('review', 'second')}",
        "interject.toml:6: hooks[1].type: is missing. Known: python, process, http.",
    ),
    "an unknown type of hook": (
        f'{PYTHON}\n{HOOK.replace("review", "second")}type = "proces"\n',
        'interject.toml:10: hooks[1].type: unknown hook type. Did you mean "process"?',
    ),
    "hooks without their required settings": (
        '[[hooks]]\ntype = "python"\n[[hooks]]\ntype = "process"\n[web]\n[[hooks]]\ntype = "http"\n',
        "interject.toml:1: hooks[0].name: is missing",
        "interject.toml:1: hooks[0].points: is missing",
        "interject.toml:1: hooks[0].path: is missing",
        "interject.toml:3: hooks[1].name: is missing",
        "interject.toml:3: hooks[1].points: is missing",
        "interject.toml:3: hooks[1].command: is missing",
        "interject.toml:6: hooks[2].name: is missing",
        "interject.toml:6: hooks[2].points: is missing",
        "interject.toml:6: hooks[2].url: is missing",
        "interject.toml:6: hooks[2].secret: is missing",
    ),
    "settings of other types of hooks": (
        f'{PYTHON}command = ["x"]\nurl = "http://127.0.0.1:1"\nsecret = "s"\n{HTTP}path = "a:A"\n',
        "interject.toml:6: hooks[0].command: only available for hooks of type process",
        "interject.toml:7: hooks[0].url: only available for hooks of type http",
        "interject.toml:8: hooks[0].secret: only available for hooks of type http",
        "interject.toml:15: hooks[1].path: only available for hooks of type python",
    ),
    "a mistyped setting of a hook": (
        f"{PYTHON}{HTTP}timout = 3\n",
        'interject.toml:12: hooks[1].timout: no such setting. Did you mean "timeout"?',
    ),
    "a table within a hook": (
        f'{PYTHON}[hooks.extras]\nx = "1"\n',
        "interject.toml:6: hooks[0].extras: no such setting. "
        "Known: name, type, path, points, priority, timeout, on_error, trusted.",
    ),
    "invalid settings of a hook": (
        '[[hooks]]\nname = "re view"\ntype = "python"\npath = "hooks.py:"\npoints = ["before_tools", "on_event", '
        '"on_event"]\npriority = 1.5\ntimeout = 0\non_error = "ajar"\ntrusted = 1\n',
        'interject.toml:2: hooks[0].name: expected a name of letters, digits, "-" and "_"',
        'interject.toml:4: hooks[0].path: expected "module:Class", "folder/file.py:Class", or the name of an '
        "entry point in the group interject.hooks",
        'interject.toml:5: hooks[0].points[0]: not one of the choices. Did you mean "before_tool"?',
        "interject.toml:6: hooks[0].priority: expected a whole number",
        "interject.toml:7: hooks[0].timeout: expected more than 0",
        "interject.toml:8: hooks[0].on_error: not one of the choices. Known: open, closed.",
        "interject.toml:9: hooks[0].trusted: expected true or false",
    ),
    "a point named twice": (
        PYTHON.replace('["before_tool"]', '["before_tool", "on_event", "before_tool"]'),
        "interject.toml:3: hooks[0].points[2]: is already listed: each point may appear only once",
    ),
    "a hook without points": (
        PYTHON.replace('["before_tool"]', "[]"),
        "interject.toml:3: hooks[0].points: is empty",
    ),
    "an infinite timeout of a hook": (
        f"{PYTHON}timeout = inf\n",
        "interject.toml:6: hooks[0].timeout: expected a number",
    ),
    "invalid commands": (
        f'{HOOK}type = "process"\ncommand = []\n{HOOK}type = "process"\ncommand = ["", "x"]\n'
        f'{HOOK}type = "process"\ncommand = "x"\n',
        "interject.toml:5: hooks[0].command: is empty",
        "interject.toml:10: hooks[1].command[0]: is empty",
        'interject.toml:15: hooks[2].command: expected a list, like ["…"]',
    ),
    "an empty secret and a URL with another scheme": (
        f'{HOOK}type = "http"\nurl = "127.0.0.1:1"\nsecret = ""\n',
        "interject.toml:5: hooks[0].url: expected a URL that begins with http:// or https://",
        "interject.toml:6: hooks[0].secret: is empty",
    ),
    "two hooks of one name": (
        f"{PYTHON}{HTTP}",
        "interject.toml:7: hooks[1].name: is already used: hook names must be unique",
    ),
    "a hook's variable that is not set": (
        f"{PYTHON}{HTTP.replace('review', 'second').replace(chr(34) + 's' + chr(34), chr(34) + '${HOOK}' + chr(34))}",
        "interject.toml:11: hooks[1].secret: the environment variable HOOK is not set",
    ),
    "errors after several hooks": (
        f"{PYTHON}[hooks.x.y]\n[web]\nport = 70000\n",
        "interject.toml:6: hooks[0].x: no such setting. "
        "Known: name, type, path, points, priority, timeout, on_error, trusted.",
        "interject.toml:8: web.port: expected 65535 or less",
    ),
    "instructions twice": (
        '[agent]\ninstructions = "x"\ninstructions_file = "y"\n',
        "interject.toml:3: agent.instructions_file: cannot be combined with instructions. Keep one of the two",
    ),
    "instructions of a named agent twice": (
        '[agents.red]\ninstructions = "x"\ninstructions_file = "y"\n',
        "interject.toml:3: agents.red.instructions_file: cannot be combined with instructions. Keep one of the two",
    ),
    "instructions in a missing file": (
        '[agent]\ninstructions_file = "y"\n',
        "interject.toml:2: agent.instructions_file: no such file",
    ),
    "a variable that is not set": (
        '[web]\nport = "${PORT}"\n',
        "interject.toml:2: web.port: the environment variable PORT is not set",
    ),
    "a variable that is not set, in a list": (
        '[tools]\nenabled = ["shell", "${TOOL}"]\n',
        "interject.toml:2: tools.enabled[1]: the environment variable TOOL is not set",
    ),
    "a broken reference": (
        '[agent]\ninstructions = "${A-B}"\n',
        'interject.toml:2: agent.instructions: "${" needs the name of an environment variable and "}". '
        'A literal "${" is written "$${"',
    ),
    "a secret in a missing file": (
        '[channels.telegram]\ntoken = "file:/nowhere/x"\n',
        "interject.toml:2: channels.telegram.token: file:/nowhere/x cannot be read: No such file or directory",
    ),
    "a variable as a shell writes it": (
        '[models.openai]\napi_key = "$OPENAI_API_KEY"\n[channels.slack]\nbot_token = "%SLACK%"\napp_token = "$(X)"\n',
        'interject.toml:2: models.openai.api_key: an environment variable is written "${NAME}"',
        'interject.toml:4: channels.slack.bot_token: an environment variable is written "${NAME}"',
        'interject.toml:5: channels.slack.app_token: an environment variable is written "${NAME}"',
    ),
    "no value": ("[agent]\nmax_steps =\n", "interject.toml:2: not TOML: Invalid value"),
    "an end too early": ("[agent]\n\nx = [1,\n", "interject.toml:3: not TOML: Invalid value"),
    "the same key twice": (
        "[web]\nport = 1\nport = 2\n",
        "interject.toml:3: not TOML: Cannot overwrite a value: a setting is there twice",
    ),
    "the same section twice": (
        "[models.openai]\n[models.openai]\n",
        "interject.toml:2: not TOML: the section [models.openai] is there twice. Put its settings together",
    ),
    "text without quotes": (
        "[agent]\nmodel = demo  # the built-in one\n",
        'interject.toml:2: not TOML: Invalid value. Text is written in quotes: "…"',
    ),
    "quotes of a word processor": (
        "[agent]\nmodel = “demo”\n",
        'interject.toml:2: not TOML: Invalid value. These quotes are typographic ones: write "…"',
    ),
    "true in capitals": (
        "[web]\nenabled = True\n",
        "interject.toml:2: not TOML: Invalid value. Write true or false, in small letters",
    ),
    "a path of Windows": (
        '[agent]\nworkspace = "C:\\Users"\n',
        "interject.toml:2: not TOML: Invalid hex value. For a backslash in the text, put the text in single quotes: "
        "'…'",
    ),
    "another format": (
        "agent:\n  model: demo\n",
        "interject.toml:1: not TOML: Expected '=' after a key in a key/value pair. A setting is written name = value",
    ),
}


@pytest.mark.parametrize(
    ("toml", "reported"), [(toml, reported) for toml, *reported in IN_THE_FILE.values()], ids=IN_THE_FILE
)
def test_an_error_in_the_file_is_reported_with_line_and_key(operator: Operator, toml: str, reported: list[str]) -> None:
    assert operator.refused(toml) == reported


IN_THE_ENVIRONMENT = {
    "INTERJECT_AGENT__MAX_STEPS": ("many", "expected a whole number"),
    "INTERJECT_WEB__ENABLED": ("perhaps", "expected true or false"),
    "INTERJECT_AGENT__MODEL": ("${MODEL}", "the environment variable MODEL is not set"),
    "INTERJECT_AGENT__MAX_STEP": ("5", "no such setting. Did you mean INTERJECT_AGENT__MAX_STEPS?"),
    "INTERJECT_AGENT_MAX_STEPS": ("5", "no such setting. Did you mean INTERJECT_AGENT__MAX_STEPS?"),
    "INTERJECT_": ("5", "no such setting."),
    "INTERJECT_ZZ__YY": ("5", "no such setting."),
    "INTERJECT_AGENT": ("5", "expected a section, not a single value"),
    "INTERJECT_AGENT__MODEL__NAME": ("x", "its parent is not a section"),
    "INTERJECT_TOOLS__ENABLED": ('["shell', 'expected a list, like ["…"]'),
    "INTERJECT_TOOLS__READ_FILE__APROVAL": (
        "once",
        "no such setting. Did you mean INTERJECT_TOOLS__READ_FILE__APPROVAL?",
    ),
    "INTERJECT_LIMITS__TURN_COST": ("much", "expected a number"),
    "INTERJECT_HOOKS": (
        '{"name": "review"}',
        "[0]: expected a section, not a single value",
    ),
}


@pytest.mark.parametrize(
    ("variable", "text", "reported"),
    [(variable, *case) for variable, case in IN_THE_ENVIRONMENT.items()],
    ids=IN_THE_ENVIRONMENT,
)
def test_an_error_in_the_environment_is_reported_with_the_variable(
    operator: Operator, variable: str, text: str, reported: str
) -> None:
    assert operator.refused('[agent]\nmodel = "demo"\n', **{variable: text}) == [
        f"environment variable {variable}: {reported}"
    ]


def test_a_wrong_entry_of_a_list_in_the_environment_is_reported_with_its_index(operator: Operator) -> None:
    assert operator.refused(INTERJECT_TOOLS__ENABLED="shell,draw_chat") == [
        'environment variable INTERJECT_TOOLS__ENABLED: [1]: not one of the choices. Did you mean "draw_chart"?'
    ]


def test_errors_of_hooks_in_the_environment_have_their_index_even_if_the_file_has_others(operator: Operator) -> None:
    json = '[{"name": "a", "type": "python", "points": [], "pth": "a:A", "url": "u"}, {"type": "x"}]'

    assert operator.refused(PYTHON, INTERJECT_HOOKS=json) == [
        "environment variable INTERJECT_HOOKS: [0].points: is empty",
        "environment variable INTERJECT_HOOKS: [0].path: is missing",
        'environment variable INTERJECT_HOOKS: [0].pth: no such setting. Did you mean "path"?',
        "environment variable INTERJECT_HOOKS: [0].url: only available for hooks of type http",
        "environment variable INTERJECT_HOOKS: [1].type: unknown hook type. Known: python, process, http.",
    ]


def test_a_variable_cannot_reach_into_the_list_of_hooks(operator: Operator) -> None:
    assert operator.refused(PYTHON, INTERJECT_HOOKS__0__TIMEOUT="1") == [
        "environment variable INTERJECT_HOOKS__0__TIMEOUT: its parent is not a section"
    ]
    assert operator.refused(INTERJECT_HOOKS__REVIEW__TIMEOUT="1") == [
        "environment variable INTERJECT_HOOKS__REVIEW__TIMEOUT: hooks: expected a list of sections: [[hooks]] in the "
        "file, or JSON in INTERJECT_HOOKS"
    ]


def test_a_missing_setting_beside_a_variable_is_reported_with_its_key(operator: Operator) -> None:
    assert operator.refused(INTERJECT_CHANNELS__TELEGRAM__ALLOW="*") == [
        "environment variable INTERJECT_CHANNELS__TELEGRAM__ALLOW: channels.telegram.token: is missing"
    ]


def test_a_missing_setting_in_a_section_of_the_file_is_reported_with_its_line(operator: Operator) -> None:
    assert operator.refused("[channels.telegram]\n", INTERJECT_CHANNELS__TELEGRAM__ALLOW="*") == [
        "interject.toml:1: channels.telegram.token: is missing"
    ]


def test_reserved_variables_and_those_of_others_are_ignored(operator: Operator) -> None:
    Path("x.toml").write_text("")

    load(
        None,
        {"INTERJECT_HOME": str(operator.home), "INTERJECT_CONFIG": "x.toml", "INTERJECT_TOKEN": "t", "INTER": "x"},
    )


def test_all_errors_are_reported_at_once_and_in_order(operator: Operator) -> None:
    reported = operator.refused(
        """
[agent]
model = "openai:gpt-5"
max_steps = "${STEPS}"
colour = "red"
instructions = '''
[web]
port = "no"
'''
[web]
port = 70000
[channels.telegram]
allow = ["ann"]
""",
        INTERJECT_WEB__HSOT="x",
        INTERJECT_WEB__PROT="x",
        INTERJECT_MODELS="x",
    )

    assert reported == [
        "environment variable INTERJECT_MODELS: expected a section, not a single value",
        "environment variable INTERJECT_WEB__HSOT: no such setting. Did you mean INTERJECT_WEB__HOST?",
        "environment variable INTERJECT_WEB__PROT: no such setting. Did you mean INTERJECT_WEB__PORT?",
        "interject.toml:4: agent.max_steps: the environment variable STEPS is not set",
        "interject.toml:5: agent.colour: no such setting. Known: model, fallback, outage_patience, small_model, "
        "routing, vision_model, context_window, context_reserve, context_full_at, context_keep, auto_compact, "
        "context, instructions, instructions_file, context_files, tools, mcp, skills, delegates, workspace, "
        "workspaces, max_steps, max_running_turns, max_running_turns_total, tell_when_waiting, transcription_model, "
        "shutdown_grace, temperature, max_tokens, reasoning, top_p.",
        "interject.toml:11: web.port: expected 65535 or less",
        "interject.toml:12: channels.telegram.token: is missing",
        'interject.toml:13: channels.telegram.allow[0]: expected a user id, a name that begins with @, or "*"',
    ]


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b'[agent]\ninstructions = "\xff"\n', r"interject\.toml:2: not UTF-8 text\. Save the file as UTF-8$"),
        (b"x = " + b"[" * 100_000, r"interject\.toml: nested too deeply$"),
        (b"x = " + b"1" * 5_000, r"interject\.toml: not TOML: Exceeds the limit"),
    ],
)
def test_a_file_that_is_not_text_or_too_large_is_refused(operator: Operator, content: bytes, reported: str) -> None:
    operator.file.write_bytes(content)

    with pytest.raises(ConfigurationError, match=reported):
        load(operator.file, {}, operator.home)


def test_a_directory_is_refused(operator: Operator) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load(operator.file.parent, {}, operator.home)


SECRET = "Zecret-5f1c"
WITH_A_SECRET = {
    "in a mistyped key": f'[channels.telegram]\ntokn = "{SECRET}"\n',
    "in a mistyped section": f'[channel.telegram]\ntoken = "{SECRET}"\n',
    "in a mistyped key of a hook": f'{HOOK}type = "http"\nsecrt = "{SECRET}"\n',
    "in another type of hook": f'{PYTHON}secret = "{SECRET}"\n',
    "as a type of hook": f'{HOOK}type = "{SECRET}"\n',
    "as a point": f'[[hooks]]\nname = "a"\ntype = "http"\nsecret = "{SECRET}"\npoints = ["{SECRET}"]\n',
    "in a hook that is no section": f'hooks = ["{SECRET}"]\n',
    "in a tool's section": f'[tools.shell]\napproval = "{SECRET}"\n',
    "as a tool": f'[tools]\nshell = "{SECRET}"\n',
    "as a price": f'[models.openai.a]\nprice = {{ input = "{SECRET}" }}\n',
    "as a header": f'[models.openai]\nheaders = {{ Authorization = ["{SECRET}"] }}\n',
    "as one of two keys": f'[models.openai]\napi_key = ["{SECRET}", 5]\n',
    "as a reasoning": f'[agent]\nreasoning = "{SECRET}"\n',
    "as a provider": f'[agent]\nmodel = "{SECRET}:x"\n',
    "in a mistyped setting of a provider": f'[models.openai]\napi_kye = "{SECRET}"\n',
    "in a key of the wrong place": f'token = "{SECRET}"\n',
    "in a mistyped provider": f'[models.opnai]\napi_key = "{SECRET}"\n',
    "in a list": f'[channels.telegram]\ntoken = ["{SECRET}"]\n',
    "in a table": f'[channels.telegram.token]\nvalue = "{SECRET}"\n',
    "as a whole channel": f'[channels]\ntelegram = "{SECRET}"\n',
    "as a type of channel": f'[channels.work]\ntype = "{SECRET}"\n',
    "beside another mistake": f'[channels.telegram]\ntoken = "{SECRET}"\nallow = 1\n',
    "as an allowed user": f'[channels.telegram]\ntoken = "1:a"\nallow = ["{SECRET}"]\n',
    "as an admin": f'[channels.discord]\ntoken = "{SECRET}"\nadmins = ["{SECRET}"]\n',
    "without a way in": f'[channels.slack]\nbot_token = "{SECRET}"\n',
    "with two ways in": f'[channels.slack]\nbot_token = "b"\napp_token = "{SECRET}"\nsigning_secret = "{SECRET}"\n',
    "for a channel without a web server": f'web.enabled = false\n[channels.slack]\nbot_token = "b"\n'
    f'signing_secret = "{SECRET}"\n',
    "as a channel's model": f'[channels.discord]\ntoken = "d"\nmodel = "openai:{SECRET}"\n',
    "as a choice": f'[channels.telegram]\ntoken = "1:a"\ngroups = "{SECRET}"\n',
    "as the model": f'[agent]\nmodel = "{SECRET}"\n',
    "as a fallback": f'[agent]\nfallback = ["{SECRET}"]\n',
    "as an address": f'[models.openai]\nbase_url = "{SECRET}"\n',
    "as the store": f'[store]\nurl = "postgresql://me:{SECRET}@127.0.0.1/x"\n',
    "before bad TOML": f'[channels.telegram]\ntoken = "{SECRET}"\nallow = \n',
    "in bad TOML": f"[channels.telegram]\ntoken = {SECRET}\n",
    "from the environment": '[channels.telegram]\ntoken = "${SECRET}"\nallow = 1\n',
    "from the environment into a number": '[agent]\nmax_steps = "${SECRET}"\n',
    "from the environment under no setting": '[agent]\nsteps = "file:${SECRET}"\n',
    "from the environment in a path": '[agent]\ninstructions = "file:${SECRET}"\n',
}


@pytest.mark.parametrize("toml", WITH_A_SECRET.values(), ids=WITH_A_SECRET)
def test_an_error_never_shows_a_value(operator: Operator, toml: str) -> None:
    operator.file.write_text(toml)

    with pytest.raises(ConfigurationError) as refusal:
        load(operator.file, {"SECRET": SECRET, "INTERJECT_TOKN": SECRET}, operator.home)

    assert SECRET not in str(refusal.value)
    assert SECRET not in repr(refusal.value)
    assert SECRET not in "".join(traceback.format_exception(refusal.value))


def test_settings_never_show_a_secret(operator: Operator) -> None:
    toml = f"""
        [channels.telegram]
        token = "{SECRET}"
        [channels.slack]
        bot_token = "{SECRET}"
        app_token = "{SECRET}"
        [channels.work]
        type = "slack"
        bot_token = "{SECRET}"
        signing_secret = "{SECRET}"
        [channels.discord]
        token = "{SECRET}"
        [models.openai]
        api_key = ["{SECRET}", "{SECRET}"]
        headers = {{ Authorization = "{SECRET}" }}
        query = {{ api_key = "{SECRET}" }}
        [[hooks]]
        name = "a"
        type = "http"
        url = "http://127.0.0.1:1"
        secret = "{SECRET}"
        points = ["on_event"]
        """

    configuration = operator.start(toml)

    held = [
        secret.get_secret_value() for channel in configuration.settings.channels.values() for secret in channel.secrets
    ]
    assert held == [SECRET] * 6
    for shown in (repr(configuration), str(configuration.settings), configuration.settings.model_dump_json()):
        assert SECRET not in shown


names = st.sampled_from(
    [
        *("agent", "models", "openai", "channels", "telegram", "slack", "token", "type", "web", "allow", "model", "x"),
        *("hooks", "tools", "shell", "price", "points", "secret"),
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(SECRET) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


def as_toml(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{name} = {as_toml(inner)}" for name, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(as_toml, value)) + "]"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
        case _:
            return "1979-05-27"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    tree=st.dictionaries(names, values, max_size=4),
    variables=st.dictionaries(st.lists(names, min_size=1, max_size=4).map("__".join), st.just(SECRET), max_size=3),
)
def test_any_input_is_accepted_or_refused_without_showing_values(
    operator: Operator, tree: dict[str, object], variables: dict[str, str]
) -> None:
    toml = "".join(f"{name} = {as_toml(value)}\n" for name, value in tree.items())
    environ = {f"INTERJECT_{name.upper()}": value for name, value in variables.items() if name != "token"}
    operator.file.write_text(toml, encoding="utf-8", errors="replace")

    refusal = refusal_of(operator, environ)

    if refusal is not None:
        assert refusal.problems
        assert all(problem.place for problem in refusal.problems)
        assert SECRET not in str(refusal)


def refusal_of(operator: Operator, environ: dict[str, str]) -> ConfigurationError | None:
    try:
        load(operator.file, environ, operator.home)
    except ConfigurationError as refusal:
        return refusal
    return None
