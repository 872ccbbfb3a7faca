import dataclasses
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.channels import CHANNELS, DiscordSettings, SlackSettings, TelegramSettings
from config.errors import ConfigurationError
from config.hooks import HttpHookSettings, ProcessHookSettings, PythonHookSettings
from config.load import data_directory, load
from config.media import S3Settings
from config.models import ModelSettings, PriceSettings
from config.settings import every_secret
from config.tools import TOOLS, ShellSettings, ToolRules
from tests.config.conftest import Operator

TELEGRAM = '[channels.telegram]\ntoken = "1:a"\n'


def test_without_settings_everything_is_a_default_in_the_data_directory(operator: Operator) -> None:
    configuration = load(None, {}, operator.home)

    settings = configuration.settings
    assert configuration.file is None
    assert configuration.home == operator.home
    assert (settings.agent.model, settings.agent.fallback) == ("demo", [])
    assert (settings.agent.max_steps, settings.agent.max_running_turns) == (50, 500)
    assert (settings.agent.instructions, settings.agent.instructions_file) == (None, None)
    assert (settings.agent.tell_when_waiting, settings.agent.transcription_model) == (20, None)
    assert settings.agent.workspace == operator.home / "workspace"
    assert settings.media.path == operator.home / "media"
    assert settings.store.url == f"sqlite:///{operator.home}/interject.db"
    assert (settings.agent.small_model, settings.agent.routing) == (None, False)
    assert (settings.agent.context_window, settings.agent.shutdown_grace) == (0, 10)
    assert (settings.web.enabled, settings.web.host, settings.web.port) == (True, "127.0.0.1", 8321)
    assert settings.web.show_reasoning is False
    assert settings.tools.enabled == list(TOOLS)
    assert settings.tools.approval_expires == 24 * 3600
    assert settings.tools.rules("shell") == ShellSettings()
    assert settings.tools.shell.model_dump() == {
        "approval": None,
        "on_steer": None,
        "timeout": None,
        "sandbox": "auto",
        "network": "none",
        "environment": [],
        "memory": 4096,
        "processes": 512,
        "file_size": 2048,
        "workspace_size": 8192,
        "cpu_seconds": 3600,
        "output": 32000,
    }
    assert (settings.models, settings.channels, settings.hooks) == ({}, {}, [])
    limits = settings.limits
    assert (limits.turn_cost, limits.person_daily_cost, limits.daily_cost) == (None, None, None)
    assert (limits.delegate_depth, limits.delegate_running) == (2, 8)
    assert not operator.home.exists(), "loading creates nothing"


def test_the_names_of_the_contract_are_accepted(operator: Operator) -> None:
    settings = operator.settings(
        """
        [agent]
        model = "openai:gpt-5"
        fallback = ["anthropic:claude-sonnet-5", "openai:gpt-5-mini"]
        small_model = "openai:gpt-5-mini"
        routing = true
        context_window = 4000
        shutdown_grace = 0
        instructions = "Be brief."
        workspace = "workspace"
        max_steps = 50
        tell_when_waiting = 5
        transcription_model = "openai:gpt-4o-transcribe"
        [models.openai]
        api_key = "${OPENAI_API_KEY}"
        base_url = "http://127.0.0.1:9999/v1"
        first_token_timeout = 120
        silence_timeout = 30
        [models.openai."gpt-5"]
        price = { input = 1.25, output = 10.0, cache_read = 0.125 }
        [models.openai."ft:me".price]
        input = 0
        output = 2
        [models.anthropic]
        api_key = "${ANTHROPIC_API_KEY}"
        base_url = "https://127.0.0.1"
        [models.anthropic.claude-sonnet-5]
        price = { input = 3, output = 15, cache_write = 3.75 }
        [store]
        url = "sqlite:///interject.db"
        [media]
        path = "media"
        [web]
        host = "127.0.0.1"
        port = 0
        show_reasoning = true
        [channels.telegram]
        token = "${TELEGRAM_BOT_TOKEN}"
        api_url = "https://api.telegram.org"
        allow = ["*", "@someone", 42]
        admins = ["@someone"]
        groups = "all"
        stream = false
        busy = "queue"
        reactions = false
        activity = "full"
        show_reasoning = true
        model = "anthropic:claude"
        instructions = "Be kind."
        pair = true
        [channels.slack]
        bot_token = "${SLACK_BOT_TOKEN}"
        app_token = "${SLACK_APP_TOKEN}"
        api_url = "https://slack.com/api/"
        allow = ["*", "U012AB3CD", "W012AB3CD", "@ann.b-c"]
        [channels.work-slack]
        type = "slack"
        bot_token = "b"
        signing_secret = "s"
        [channels.discord]
        token = "${DISCORD_BOT_TOKEN}"
        api_url = "https://discord.com/api/v10"
        gateway_url = "ws://127.0.0.1:1/gateway"
        allow = ["*", 175928847299117063, "@ann.b"]
        [tools]
        enabled = ["shell", "read_file", "write_file", "edit_file", "list_files", "fetch_url", "draw_chart",
                   "send_file", "view_image", "ask_user", "todos", "delegate", "background"]
        approval_expires = 3600
        [tools.shell]
        approval = "once"
        on_steer = "finish"
        timeout = 900
        [tools.fetch_url]
        approval = "always"
        [limits]
        turn_cost = 1.0
        person_daily_cost = 5
        daily_cost = 0.5
        delegate_depth = 0
        delegate_running = 1
        """,
        OPENAI_API_KEY="o",
        ANTHROPIC_API_KEY="a",
        TELEGRAM_BOT_TOKEN="1:a",
        SLACK_BOT_TOKEN="xoxb",
        SLACK_APP_TOKEN="xapp",
        DISCORD_BOT_TOKEN="d",
    )

    assert settings.agent.instructions == "Be brief."
    assert settings.models["openai"].api_key == [SecretStr("o")]
    assert settings.models["openai"].base_url == "http://127.0.0.1:9999/v1"
    assert (settings.models["openai"].first_token_timeout, settings.models["openai"].silence_timeout) == (120, 30)
    assert settings.models["anthropic"].api_key == [SecretStr("a")]
    assert (settings.models["anthropic"].first_token_timeout, settings.models["anthropic"].silence_timeout) == (
        None,
        60,
    )
    assert settings.agent.fallback == ["anthropic:claude-sonnet-5", "openai:gpt-5-mini"]
    assert (settings.agent.small_model, settings.agent.routing) == ("openai:gpt-5-mini", True)
    assert (settings.agent.context_window, settings.agent.shutdown_grace) == (4000, 0)
    assert settings.models["openai"].models == {
        "gpt-5": ModelSettings(price=PriceSettings(input=1.25, output=10, cache_read=0.125)),
        "ft:me": ModelSettings(price=PriceSettings(input=0, output=2)),
    }
    assert settings.models["anthropic"].models == {
        "claude-sonnet-5": ModelSettings(price=PriceSettings(input=3, output=15, cache_write=3.75))
    }
    assert (settings.web.port, settings.web.show_reasoning) == (0, True)
    assert settings.tools.enabled[-3:] == ["todos", "delegate", "background"]
    assert settings.tools.approval_expires == 3600
    assert settings.tools.rules("shell") == ShellSettings(approval="once", on_steer="finish", timeout=900)
    assert settings.tools.rules("fetch_url") == ToolRules(approval="always")
    assert settings.tools.rules("read_file") == ToolRules()
    limits = settings.limits
    assert (limits.turn_cost, limits.person_daily_cost, limits.daily_cost) == (1.0, 5.0, 0.5)
    assert (limits.delegate_depth, limits.delegate_running) == (0, 1)
    assert (settings.agent.tell_when_waiting, settings.agent.transcription_model) == (5, "openai:gpt-4o-transcribe")
    telegram, slack, work, discord = settings.channels.values()
    assert isinstance(telegram, TelegramSettings)
    assert isinstance(slack, SlackSettings)
    assert isinstance(work, SlackSettings)
    assert isinstance(discord, DiscordSettings)
    assert (telegram.type, telegram.token, telegram.groups) == ("telegram", SecretStr("1:a"), "all")
    assert (telegram.allow, telegram.admins) == (["*", "@someone", "42"], ["@someone"])
    assert (telegram.stream, telegram.busy, telegram.reactions, telegram.pair) == (False, "queue", False, True)
    assert (telegram.activity, telegram.show_reasoning) == ("full", True)
    assert (telegram.model, telegram.instructions) == ("anthropic:claude", "Be kind.")
    assert (slack.bot_token, slack.app_token, slack.signing_secret) == (SecretStr("xoxb"), SecretStr("xapp"), None)
    assert slack.allow == ["*", "U012AB3CD", "W012AB3CD", "@ann.b-c"]
    assert (work.app_token, work.signing_secret, work.api_url) == (None, SecretStr("s"), "https://slack.com/api/")
    assert (discord.token, discord.gateway_url) == (SecretStr("d"), "ws://127.0.0.1:1/gateway")
    assert discord.allow == ["*", "175928847299117063", "@ann.b"]


@pytest.mark.parametrize(
    ("platform", "tokens"),
    [("telegram", 'token = "1:a"'), ("slack", 'bot_token = "b"\napp_token = "a"'), ("discord", 'token = "d"')],
)
def test_by_default_a_channel_has_an_empty_allowlist_and_steers(operator: Operator, platform: str, tokens: str) -> None:
    settings = operator.settings(f'[channels.mine]\ntype = "{platform}"\n{tokens}\n')

    channel = settings.channels["mine"]
    assert channel.type == platform
    assert (channel.allow, channel.admins, channel.pair) == ([], [], False)
    assert (channel.groups, channel.stream, channel.busy, channel.reactions) == ("mention", True, "steer", True)
    assert (channel.activity, channel.show_reasoning) == ("quiet", False)
    assert (channel.model, channel.instructions) == (None, None)


def test_the_environment_overrides_the_file_and_the_file_the_default(operator: Operator) -> None:
    toml = "[agent]\nmax_steps = 7\nmax_running_turns = 8\n"

    settings = operator.settings(toml, INTERJECT_AGENT__MAX_STEPS="9", INTERJECT_WEB__ENABLED="no")

    assert settings.agent.max_steps == 9
    assert settings.agent.max_running_turns == 8
    assert settings.web.enabled is False
    assert settings.web.port == 8321


def test_a_channel_can_come_from_the_environment_alone(operator: Operator) -> None:
    settings = operator.settings(INTERJECT_CHANNELS__TELEGRAM__TOKEN="1:a", INTERJECT_CHANNELS__TELEGRAM__ALLOW="7")

    assert settings.channels["telegram"].secrets == (SecretStr("1:a"),)
    assert settings.channels["telegram"].allow == ["7"]


@pytest.mark.parametrize(
    ("text", "allow"),
    [
        ("@a,@b", ["@a", "@b"]),
        (" @a , 12,", ["@a", "12"]),
        ('["@a", 12]', ["@a", "12"]),
        ("", []),
        ("*", ["*"]),
    ],
)
def test_a_list_in_the_environment_is_json_or_has_commas(operator: Operator, text: str, allow: list[str]) -> None:
    settings = operator.settings(TELEGRAM, INTERJECT_CHANNELS__TELEGRAM__ALLOW=text)

    assert settings.channels["telegram"].allow == allow


def test_one_platform_can_have_several_accounts(operator: Operator) -> None:
    settings = operator.settings(
        TELEGRAM + '[channels.My-Work]\ntype = "telegram"\ntoken = "2:b"\n', INTERJECT_CHANNELS__MY_WORK__GROUPS="off"
    )

    assert list(settings.channels) == ["telegram", "My-Work"]
    assert settings.channels["My-Work"].secrets == (SecretStr("2:b"),)
    assert settings.channels["My-Work"].groups == "off"


class TestHooks:
    def test_are_of_three_types_in_the_order_of_the_file(self, operator: Operator) -> None:
        settings = operator.settings(
            """
            [[hooks]]
            name = "review"
            type = "process"
            command = ["python3", "hooks/review.py"]
            points = ["before_tool", "approve_tool"]
            priority = 10
            timeout = 0.5
            on_error = "open"
            [web]
            port = 1
            [[hooks]]
            name = "manners_2"
            type = "python"
            path = "my.hooks:Manners"
            points = ["before_reply"]
            trusted = true
            [[hooks]]
            name = "audit"
            type = "python"
            path = "audit-log"
            points = ["on_event"]
            [[hooks]]
            name = "policy"
            type = "http"
            url = "https://127.0.0.1/policy"
            secret = "${POLICY}"
            points = ["on_message", "before_model", "after_model", "after_tool"]
            on_error = "closed"
            timeout = 30
            """,
            POLICY="s3cret",
        )

        review, manners, audit, policy = settings.hooks
        assert isinstance(review, ProcessHookSettings)
        assert (review.name, review.command) == ("review", ["python3", "hooks/review.py"])
        assert (review.points, review.priority) == (["before_tool", "approve_tool"], 10)
        assert (review.timeout, review.on_error, review.trusted) == (0.5, "open", False)
        assert isinstance(manners, PythonHookSettings)
        assert (manners.path, manners.trusted) == ("my.hooks:Manners", True)
        assert (manners.priority, manners.timeout, manners.on_error) == (100, 5, None)
        assert isinstance(audit, PythonHookSettings)
        assert audit.path == "audit-log"
        assert isinstance(policy, HttpHookSettings)
        assert (policy.url, policy.secret) == ("https://127.0.0.1/policy", SecretStr("s3cret"))
        assert (policy.points[0], policy.on_error, policy.timeout) == ("on_message", "closed", 30)

    def test_can_be_one_list_in_the_file_or_in_the_environment(self, operator: Operator) -> None:
        toml = 'hooks = [{ name = "a", type = "python", path = "a:A", points = ["on_event"], timeout = "${SECONDS}" }]'
        json = '[{"name": "b", "type": "python", "path": "b:B", "points": ["on_event"]}]'

        (in_the_file,) = operator.settings(toml, SECONDS="2.5").hooks
        (in_the_environment,) = operator.settings(toml, SECONDS="1", INTERJECT_HOOKS=json).hooks

        assert (in_the_file.name, in_the_file.timeout) == ("a", 2.5)
        assert in_the_environment.name == "b"

    def test_variables_for_other_settings_are_read_as_well(self, operator: Operator) -> None:
        toml = '[[hooks]]\nname = "a"\ntype = "python"\npath = "a:A"\npoints = ["on_event"]\n'

        settings = operator.settings(
            toml,
            INTERJECT_TOOLS__READ_FILE__APPROVAL="once",
            INTERJECT_TOOLS__SHELL__TIMEOUT="5",
            INTERJECT_LIMITS__TURN_COST="0.25",
            INTERJECT_AGENT__SHUTDOWN_GRACE="3",
        )

        assert len(settings.hooks) == 1
        assert settings.tools.rules("read_file").approval == "once"
        assert settings.tools.rules("shell").timeout == 5
        assert (settings.limits.turn_cost, settings.agent.shutdown_grace) == (0.25, 3)


def test_every_secret_is_found_wherever_it_is(operator: Operator) -> None:
    settings = operator.settings(
        """
        [models.openai]
        api_key = "1"
        [models.anthropic]
        api_key = "2"
        [channels.telegram]
        token = "3"
        [channels.slack]
        bot_token = "4"
        app_token = "5"
        [channels.work]
        type = "slack"
        bot_token = "6"
        signing_secret = "7"
        [channels.discord]
        token = "8"
        [[hooks]]
        name = "policy"
        type = "http"
        url = "http://127.0.0.1:1"
        secret = "9"
        points = ["on_message"]
        """
    )

    assert {channel.type for channel in settings.channels.values()} == set(CHANNELS)
    assert [secret.get_secret_value() for secret in every_secret(settings)] == list("123456789")


class TestMedia:
    def test_they_are_in_a_folder_by_its_path_or_its_url(self, operator: Operator) -> None:
        assert operator.settings("").media.folder == operator.home / "media"
        assert operator.settings('[media]\npath = "/srv/m"\n').media.folder == Path("/srv/m")
        media = operator.settings('[media]\nurl = "file:///srv/our%20media"\n').media
        assert (media.folder, media.is_bucket) == (Path("/srv/our media"), False)

    @pytest.mark.parametrize(
        ("url", "bucket"),
        [
            ("s3://bucket", ("bucket", "")),
            ("s3://bucket/", ("bucket", "")),
            ("s3://my.bucket-1/a/b/", ("my.bucket-1", "a/b")),
        ],
    )
    def test_or_in_a_bucket(self, operator: Operator, url: str, bucket: tuple[str, str]) -> None:
        media = operator.settings(f'[media]\nurl = "{url}"\n').media
        assert (media.folder, media.bucket) == (None, bucket)

    def test_what_is_left_out_comes_from_the_usual_variables_and_is_masked(self, operator: Operator) -> None:
        variables = {
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": "https://s3.example.com",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "from the variable",
            "AWS_SESSION_TOKEN": "token",
        }
        settings = operator.settings('[media]\nurl = "s3://bucket"\n[media.s3]\nregion = "eu-north-1"\n', **variables)
        found = settings.media.s3
        assert (found.endpoint, found.region, found.access_key_id) == ("https://s3.example.com", "eu-north-1", "id")
        assert {each.get_secret_value() for each in every_secret(settings)} == {"from the variable", "token"}

    def test_keys_are_not_mixed_with_those_of_the_variables(self, operator: Operator) -> None:
        toml = '[media]\nurl = "s3://bucket"\n[media.s3]\naccess_key_id = "${ID}"\nsecret_access_key = "${SECRET}"\n'
        settings = operator.settings(toml, ID="mine", SECRET="own", AWS_ACCESS_KEY_ID="a", AWS_SESSION_TOKEN="t")
        assert (settings.media.s3.access_key_id, settings.media.s3.session_token) == ("mine", None)
        assert [each.get_secret_value() for each in every_secret(settings)] == ["own"]

    def test_a_folder_that_holds_the_gateways_own_files_is_refused(self, operator: Operator) -> None:
        with pytest.raises(ConfigurationError, match=r"media\.url: .* contains the data directory"):
            operator.settings(f'[media]\nurl = "file://{operator.home}"\n')

    def test_variables_of_aws_mean_nothing_for_a_folder(self, operator: Operator) -> None:
        settings = operator.settings("", AWS_REGION="eu-west-1", AWS_SECRET_ACCESS_KEY="s", AWS_ACCESS_KEY_ID="i")
        assert settings.media.s3 == S3Settings()

    def test_other_programs_never_get_the_keys_to_the_bucket(self, operator: Operator) -> None:
        toml = '[media]\nurl = "s3://bucket"\n[tools.shell]\nenvironment = ["AWS_SECRET_ACCESS_KEY"]\n'
        with pytest.raises(ConfigurationError, match="AWS_SECRET_ACCESS_KEY holds a setting of the gateway"):
            operator.settings(toml)


class TestReferences:
    def test_a_variable_replaces_the_whole_text_or_a_part_of_it(self, operator: Operator) -> None:
        settings = operator.settings(
            '[agent]\ninstructions = "I am ${WHO} of ${TEAM}, not $${WHO}."\nmodel = "${MODEL}"\n',
            WHO="Ann",
            TEAM="${WHO}",
            MODEL="demo",
        )

        assert settings.agent.instructions == "I am Ann of ${WHO}, not ${WHO}."
        assert settings.agent.model == "demo"

    def test_a_variable_can_be_a_number_a_boolean_or_a_list(self, operator: Operator) -> None:
        settings = operator.settings(
            '[web]\nport = "${PORT}"\nenabled = "${ON}"\n[tools]\nenabled = "${TOOLS}"\n',
            PORT="80",
            ON="false",
            TOOLS="shell, read_file",
        )

        assert (settings.web.port, settings.web.enabled) == (80, False)
        assert settings.tools.enabled == ["shell", "read_file"]

    def test_a_variable_may_contain_references(self, operator: Operator) -> None:
        settings = operator.settings(TELEGRAM, INTERJECT_CHANNELS__TELEGRAM__TOKEN="${TOKEN}", TOKEN="2:b")

        assert settings.channels["telegram"].secrets == (SecretStr("2:b"),)

    def test_the_contents_of_a_file_are_stripped(self, operator: Operator, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(" 3:c \n")

        settings = operator.settings('[channels.telegram]\ntoken = "file:${DIR}/secret"\n', DIR=str(tmp_path))

        assert settings.channels["telegram"].secrets == (SecretStr("3:c"),)

    def test_a_relative_file_is_relative_to_the_configuration_file(self, operator: Operator) -> None:
        (operator.file.parent / "secret").write_text("4:d")

        settings = operator.settings('[channels.telegram]\ntoken = "file:secret"\n')

        assert settings.channels["telegram"].secrets == (SecretStr("4:d"),)

    def test_references_in_resolved_text_are_not_resolved_again(self, operator: Operator) -> None:
        (operator.file.parent / "text").write_text("${NOT_SET}")

        from_file = operator.settings('[agent]\ninstructions = "file:text"\n')
        from_variable = operator.settings('[agent]\ninstructions = "${TEXT}"\n', TEXT="file:nowhere")

        assert from_file.agent.instructions == "${NOT_SET}"
        assert from_variable.agent.instructions == "file:nowhere"


class TestPaths:
    def test_those_in_the_file_are_relative_to_it(self, operator: Operator) -> None:
        directory = operator.file.parent
        (directory / "who.md").write_text("Be brief.")

        settings = operator.settings(
            '[agent]\nworkspace = "w"\ninstructions_file = "who.md"\n'
            '[media]\npath = "../m"\n[store]\nurl = "sqlite:///db/i.db"\n'
        )

        assert settings.agent.workspace == directory / "w"
        assert settings.agent.instructions_file == directory / "who.md"
        assert settings.media.path == directory.parent / "m"
        assert settings.store.url == f"sqlite:///{directory}/db/i.db"

    def test_the_file_of_a_hook_is_a_path_and_its_module_is_not(self, operator: Operator) -> None:
        toml = """
            [[hooks]]
            name = "a"
            type = "python"
            path = "../hooks/a.py:A"
            points = ["on_event"]
            [[hooks]]
            name = "b"
            type = "python"
            path = "hooks.b:B"
            points = ["on_event"]
            """
        json = '[{"name": "c", "type": "python", "path": "c.py:C", "points": ["on_event"]}]'

        a, b = operator.settings(toml).hooks
        (c,) = operator.settings(toml, INTERJECT_HOOKS=json).hooks

        assert [hook.path for hook in (a, b, c) if isinstance(hook, PythonHookSettings)] == [
            f"{operator.file.parent.parent}/hooks/a.py:A",
            "hooks.b:B",
            f"{Path.cwd()}/c.py:C",
        ]

    def test_those_in_the_environment_are_relative_to_the_working_directory(self, operator: Operator) -> None:
        settings = operator.settings(
            '[agent]\nworkspace = "w"\n', INTERJECT_AGENT__WORKSPACE="v", INTERJECT_STORE__URL="sqlite:///i.db"
        )

        assert settings.agent.workspace == Path.cwd() / "v"
        assert settings.store.url == f"sqlite:///{Path.cwd()}/i.db"

    def test_absolute_ones_are_unchanged(self, operator: Operator) -> None:
        settings = operator.settings('[media]\npath = "/srv/m"\n[store]\nurl = "sqlite:////srv/i.db"\n')

        assert settings.media.path == Path("/srv/m")
        assert settings.store.url == "sqlite:////srv/i.db"

    def test_a_tilde_is_the_home_directory(self, operator: Operator) -> None:
        assert operator.settings('[media]\npath = "~/m"\n').media.path == Path.home() / "m"

    def test_a_file_named_relatively_still_gives_absolute_paths(self, operator: Operator) -> None:
        Path("mine.toml").write_text('[media]\npath = "m"\n')

        assert load(Path("mine.toml"), {}, operator.home).settings.media.path == Path.cwd() / "m"


class TestTheFile:
    def test_the_working_directory_goes_before_the_data_directory(self, operator: Operator) -> None:
        operator.home.mkdir()
        (operator.home / "interject.toml").write_text("[web]\nport = 1\n")
        assert load(None, {}, operator.home).settings.web.port == 1

        Path("interject.toml").write_text("[web]\nport = 2\n")
        assert load(None, {}, operator.home).settings.web.port == 2
        assert load(None, {}, operator.home).file == Path("interject.toml")

    def test_the_named_one_goes_before_the_variable_and_the_variable_before_the_defaults(
        self, operator: Operator
    ) -> None:
        Path("interject.toml").write_text("[web]\nport = 1\n")
        Path("variable.toml").write_text("[web]\nport = 2\n")
        Path("named.toml").write_text("[web]\nport = 3\n")
        environ = {"INTERJECT_CONFIG": "variable.toml"}

        assert load(None, environ, operator.home).settings.web.port == 2
        assert load(Path("named.toml"), environ, operator.home).settings.web.port == 3

    def test_windows_line_ends_and_a_byte_order_mark_do_not_matter(self, operator: Operator) -> None:
        operator.file.write_bytes(b"\xef\xbb\xbf[web]\r\nport = 5\r\n")

        assert load(operator.file, {}, operator.home).settings.web.port == 5


class TestTheDataDirectory:
    def test_is_the_variables(self, tmp_path: Path) -> None:
        assert load(None, {"INTERJECT_HOME": str(tmp_path)}).home == tmp_path

    def test_is_absolute_even_where_the_variable_is_not(self, operator: Operator) -> None:
        assert data_directory({"INTERJECT_HOME": "x"}) == Path.cwd() / "x"

    def test_is_the_platforms_default_otherwise(self) -> None:
        usual = data_directory({})

        assert usual.is_absolute()
        assert usual.name == "interject"


class TestTheModelsKey:
    def test_is_found_in_the_providers_standard_variable(self, operator: Operator) -> None:
        settings = operator.settings('[agent]\nmodel = "anthropic:claude"\n', ANTHROPIC_API_KEY="k", OPENAI_API_KEY="o")

        assert settings.models["anthropic"].api_key == [SecretStr("k")]
        assert "openai" not in settings.models

    def test_is_found_for_a_channels_model_and_for_voice_notes_as_well(self, operator: Operator) -> None:
        toml = '[channels.discord]\ntoken = "d"\nmodel = "anthropic:claude"\n'
        voice = '[agent]\ntranscription_model = "openai:whisper-1"\n'

        settings = operator.settings(toml + voice, ANTHROPIC_API_KEY="a", OPENAI_API_KEY="o")

        assert settings.agent.model == "demo"
        assert settings.models["anthropic"].api_key == [SecretStr("a")]
        assert settings.models["openai"].api_key == [SecretStr("o")]

    def test_is_found_for_the_models_to_fall_back_on(self, operator: Operator) -> None:
        in_the_file = operator.settings('[agent]\nfallback = ["anthropic:claude"]\n', ANTHROPIC_API_KEY="a")
        in_the_environment = operator.settings(
            INTERJECT_AGENT__FALLBACK="anthropic:claude, openai:gpt-5", ANTHROPIC_API_KEY="a", OPENAI_API_KEY="o"
        )

        assert in_the_file.models["anthropic"].api_key == [SecretStr("a")]
        assert in_the_environment.agent.fallback == ["anthropic:claude", "openai:gpt-5"]
        assert set(in_the_environment.models) == {"anthropic", "openai"}

    def test_is_found_for_the_small_model(self, operator: Operator) -> None:
        settings = operator.settings('[agent]\nsmall_model = "openai:gpt-5-mini"\n', OPENAI_API_KEY="o")

        assert settings.models["openai"].api_key == [SecretStr("o")]

    def test_in_the_settings_goes_first(self, operator: Operator) -> None:
        toml = '[agent]\nmodel = "openai:gpt-5"\n[models.openai]\napi_key = "mine"\n'

        assert operator.settings(toml, OPENAI_API_KEY="usual").models["openai"].api_key == [SecretStr("mine")]

    def test_is_not_needed_and_not_sent_to_a_server_of_ones_own(self, operator: Operator) -> None:
        toml = '[agent]\nmodel = "openai:llama"\n[models.openai]\nbase_url = "http://127.0.0.1:1/v1"\n'

        assert operator.settings(toml).models["openai"].api_key is None
        assert operator.settings(toml, OPENAI_API_KEY="usual").models["openai"].api_key is None

    def test_is_one_or_a_list_in_the_file_as_in_the_environment(self, operator: Operator) -> None:
        toml = '[models.openai]\napi_key = ["${A}", "literal"]\n[models.groq]\napi_key = "${A}"\n'

        settings = operator.settings(toml, A="a", INTERJECT_MODELS__XAI__API_KEY="x, y")

        keys = {
            name: [key.get_secret_value() for key in given.api_key or ()] for name, given in settings.models.items()
        }
        assert keys == {"openai": ["a", "literal"], "groq": ["a"], "xai": ["x", "y"]}

    def test_of_a_known_provider_is_found_in_its_variable_unless_the_server_is_another(
        self, operator: Operator
    ) -> None:
        azure = '[agent]\nmodel = "azure:a"\n[models.azure]\nbase_url = "https://a.openai.azure.com/openai/v1"\n'
        proxied = '[agent]\nfallback = ["groq:a"]\n[models.groq]\nbase_url = "https://proxy.example.com"\n'

        assert operator.settings(azure, AZURE_OPENAI_API_KEY="k").models["azure"].api_key == [SecretStr("k")]
        assert operator.settings(proxied, GROQ_API_KEY="k").models["groq"].api_key is None
        mistral = operator.settings('[agent]\nmodel = "mistral:a"\n', MISTRAL_API_KEY="k").models["mistral"]
        assert mistral.api_key == [SecretStr("k")]


def test_headers_and_query_parameters_that_are_secrets_by_their_names_are_masked(operator: Operator) -> None:
    settings = operator.settings(
        """
        [models.work]
        type = "openai"
        base_url = "https://me:password-1@example.com/v1?api_key=secret-2&tenant=public-3"
        headers = { Authorization = "${HEADER}", X-Team = "public-4" }
        query = { token = "secret-6", api-version = "public-7" }
        """,
        HEADER="secret-5",
    )

    secrets = {secret.get_secret_value() for secret in every_secret(settings)}
    assert secrets == {"password-1", "secret-2", "secret-5", "secret-6"}


def test_the_parameters_of_a_model_are_given_in_the_file_or_the_environment(operator: Operator) -> None:
    settings = operator.settings(
        """
        [agent]
        reasoning = "${EFFORT}"
        [models.ollama."qwen3:8b"]
        reasoning = 4000
        vision = true
        [models.work]
        type = "openai"
        base_url = "http://127.0.0.1:1"
        extra_body = { provider = { order = ["a"], allow = true }, user = "${EFFORT}" }
        """,
        EFFORT="high",
        INTERJECT_AGENT__TEMPERATURE="0.5",
        INTERJECT_AGENT__MAX_TOKENS="900",
    )

    assert (settings.agent.reasoning, settings.agent.temperature, settings.agent.max_tokens) == ("high", 0.5, 900)
    assert settings.models["ollama"].models == {"qwen3:8b": ModelSettings(reasoning=4000, vision=True)}
    assert settings.models["work"].extra_body == {"provider": {"order": ["a"], "allow": True}, "user": "high"}


def test_a_configuration_cannot_be_changed(operator: Operator) -> None:
    configuration = operator.start()

    with pytest.raises(dataclasses.FrozenInstanceError):
        configuration.home = Path("/")  # type: ignore[misc]  # the point of the test
    with pytest.raises(ValueError, match="frozen"):
        configuration.settings.agent.max_steps = 1  # type: ignore[misc]  # the point of the test


def test_a_file_that_is_not_there_is_refused(operator: Operator) -> None:
    with pytest.raises(ConfigurationError, match=r"^nowhere\.toml: cannot be read: No such file or directory$"):
        load(Path("nowhere.toml"), {}, operator.home)
