"""The demo model, played as a conversation: transcripts in, texts and calls out."""

import json
from collections.abc import Sequence

import pytest

from agent.events import Delta, TextDelta
from agent.log import Call, MessagesRead, ModelAnswered, Outcome, UserMessage
from agent.media import Attachment
from agent.model import Answer, Request, ToolSpec
from agent.models.demo import DemoModel
from agent.models.demo_image import described, shapes_in
from agent.tools import load_tools
from agent.transcript import Exchange, Result, Results, SystemNote

TOOLS = load_tools(["shell", "draw_chart"])
SPECS = tuple(tool.spec for tool in TOOLS)


class Talk:
    """A conversation with the demo. Nothing is run: the test says what became of each call."""

    def __init__(self, tools: tuple[ToolSpec, ...] = SPECS) -> None:
        self.transcript: list[Exchange] = []
        self.tools = tools
        self.last = Answer(())
        self.deltas: list[str] = []

    async def say(self, text: str, *attachments: Attachment) -> str:
        self.transcript.append(MessagesRead(1, (UserMessage(1, "Ann", text, attachments),)))
        return await self.answer()

    async def interject(self, text: str, outcomes: Sequence[Outcome]) -> str:
        """The calls end so, and the message comes before the next answer."""
        self._end(outcomes)
        return await self.say(text)

    async def calls_end(self, outcomes: Sequence[Outcome]) -> str:
        self._end(outcomes)
        return await self.answer()

    async def stop(self, outcomes: Sequence[Outcome]) -> None:
        """The calls end so, and the turn with them."""
        self._end(outcomes)
        self.transcript.append(SystemNote("The turn ended here: you asked to stop"))

    async def interrupt(self, text: str) -> str:
        """The last answer turns out to have been interrupted while it was spoken."""
        answered = self.transcript[-1]
        assert isinstance(answered, ModelAnswered)
        self.transcript[-1] = ModelAnswered(1, answered.parts[:1], interrupted=True)
        return await self.say(text)

    async def answer(self) -> str:
        self.deltas.clear()
        self.last = await DemoModel(pause=0).answer(Request("", self.transcript, self.tools), self._on_delta)
        self.transcript.append(ModelAnswered(1, self.last.parts))
        assert "".join(self.deltas) == self._answered.text
        return self._answered.text

    @property
    def calls(self) -> tuple[Call, ...]:
        return self._answered.calls

    @property
    def commands(self) -> list[str]:
        return [json.loads(call.arguments)["command"] for call in self._answered.calls]

    @property
    def chart(self) -> dict[str, object]:
        (call,) = self._answered.calls
        assert call.name == "draw_chart"
        return dict(json.loads(call.arguments))

    @property
    def _answered(self) -> ModelAnswered:
        answered = self.transcript[-1]
        assert isinstance(answered, ModelAnswered)
        return answered

    def _end(self, outcomes: Sequence[Outcome]) -> None:
        pairs = zip(self._answered.calls, outcomes, strict=True)
        self.transcript.append(Results(tuple(Result(call, outcome, f"{outcome}: text") for call, outcome in pairs)))

    async def _on_delta(self, delta: Delta) -> None:
        assert isinstance(delta, TextDelta)
        self.deltas.append(delta.text)


async def test_the_first_answer_says_that_it_is_a_demo_and_how_to_get_a_real_model() -> None:
    talk = Talk()
    first = await talk.say("hello")
    assert "built-in demo" in first
    assert "no key" in first
    assert "interject.toml" in first
    assert "built-in demo" not in await talk.say("hello again")


async def test_it_asks_and_follows_the_answer() -> None:
    talk = Talk(tuple(tool.spec for tool in load_tools(["ask_user", "draw_chart"])))
    await talk.say("ask me something")
    (call,) = talk.calls
    assert call.name == "ask_user"
    assert "pie" in json.loads(call.arguments)["options"]
    assert "You chose" in await talk.interject("pie", ["done"])
    assert talk.chart["kind"] == "pie"


async def test_it_remembers_a_name() -> None:
    talk = Talk()
    assert "not told me" in await talk.say("What is my name?")
    assert "Ann" in await talk.say("my name is ann")
    await talk.say("thanks")
    assert "Ann" in await talk.say("what's my name?")


async def test_it_quotes_the_message() -> None:
    assert "“the tides are late”" in await Talk().say("the  tides\nare late")


async def test_it_answers_an_empty_message() -> None:
    assert "empty" in await Talk().say("")


async def test_it_names_what_was_sent_and_not_what_the_gateway_made_of_it() -> None:
    said = await Talk().say(
        "look",
        Attachment("a", "cat.png", "image/png", 1234, 4000, 3000),
        Attachment("b", "cat.png", "image/png", 999, 640, 480, taken_from="a"),
    )
    assert "I received the picture *cat.png* (4000×3000, 1,234 bytes)." in said  # noqa: RUF001 - the sign for sizes


async def test_it_names_the_pictures_and_files_it_got() -> None:
    said = await Talk().say(
        "look", Attachment("a", "cat.png", "image/png", 1234, 640, 480), Attachment("b", "x.pdf", "application/pdf", 9)
    )
    assert "cat.png" in said
    assert "640×480" in said  # noqa: RUF001 - the sign for sizes
    assert "x.pdf" in said


@pytest.mark.parametrize(
    ("wish", "kind", "values", "labels"),
    [
        ("draw a chart", "bar", [3, 5, 2, 8, 6], ["Mon", "Tue", "Wed", "Thu", "Fri"]),
        ("bar chart of 3, 5, 8", "bar", [3, 5, 8], ["1", "2", "3"]),
        ("a pie of 3 and 5 please", "pie", [3, 5], ["1", "2"]),
        ("plot a line chart: apples 3, pears 5.5, plums -2", "line", [3, 5.5, -2], ["apples", "pears", "plums"]),
        ("make me a picture", "bar", [3, 5, 2, 8, 6], ["Mon", "Tue", "Wed", "Thu", "Fri"]),
    ],
)
async def test_it_draws_the_numbers_it_is_given(wish: str, kind: str, values: list[float], labels: list[str]) -> None:
    talk = Talk()
    await talk.say(wish)
    assert talk.chart["kind"] == kind
    assert talk.chart["series"][0]["values"] == values  # type: ignore[index]  # JSON
    assert talk.chart["labels"] == labels


@pytest.mark.parametrize("wish", ["chart", "pie", "scatter plot of 1 2 3", "line chart 5 6", "do a long task"])
async def test_its_calls_fit_the_real_tools(wish: str) -> None:
    talk = Talk()
    await talk.say(wish)
    assert talk.calls
    for call in talk.calls:
        (tool,) = load_tools([call.name])
        tool.arguments.model_validate_json(call.arguments)


EVERYTHING = tuple(
    tool.spec for tool in load_tools(["shell", "draw_chart", "generate_image", "write_file", "send_file"])
)


@pytest.mark.parametrize(
    ("wish", "tool"),
    [
        ("draw a picture of two cats", "generate_image"),
        ("paint an image", "generate_image"),
        ("draw the sea", "generate_image"),
        ("draw a picture of a pie chart", "draw_chart"),
        ("draw a chart", "draw_chart"),
        ("write a note about tea", "write_file"),
    ],
)
async def test_it_chooses_the_tool_by_the_words(wish: str, tool: str) -> None:
    talk = Talk(EVERYTHING)
    await talk.say(wish)
    (call,) = talk.calls
    assert call.name == tool
    load_tools([tool])[0].arguments.model_validate_json(call.arguments)


async def test_a_picture_has_a_caption_that_is_true() -> None:
    talk = Talk(EVERYTHING)
    await talk.say("draw a picture of two red houses and a cat")
    (call,) = talk.calls
    caption = json.loads(call.arguments)["alt"]
    assert "2 × red hut, cat" in caption  # noqa: RUF001 - the sign for counts
    assert "No image model drew it" in caption
    assert "[tools.generate_image]" in await talk.calls_end(["done"])


async def test_an_interjection_changes_the_picture_that_is_drawn() -> None:
    talk = Talk(EVERYTHING)
    await talk.say("draw a picture of a boat at night")
    said = await talk.interject("with two boats, please", ["cancelled"])
    assert "The picture was not drawn" in said
    (call,) = talk.calls
    assert "2 × boat" in json.loads(call.arguments)["alt"]  # noqa: RUF001 - the sign for counts
    await talk.interject("stop, no boats", ["cancelled"])
    assert not talk.calls


async def test_a_file_that_could_not_be_written_is_not_sent() -> None:
    talk = Talk(EVERYTHING)
    await talk.say("write a file about tea")
    assert "not written" in await talk.calls_end(["failed"])
    assert talk.calls == ()
    await talk.say("write a file about tea")
    await talk.calls_end(["done"])
    assert [call.name for call in talk.calls] == ["send_file"]


async def test_a_count_goes_on_with_the_shelves_that_an_interjection_names() -> None:
    talk = Talk((ToolSpec("stock_count_shelf", "Counts.", {}),))
    await talk.say("count the stock")
    await talk.interject("only coffee", ["cancelled", "skipped", "skipped"])
    assert [json.loads(call.arguments)["shelf"] for call in talk.calls] == ["coffee"]


async def test_a_count_that_is_stopped_is_told_and_not_begun_again() -> None:
    talk = Talk((ToolSpec("stock_count_shelf", "Counts.", {}),))
    await talk.say("count the stock")
    assert [json.loads(call.arguments)["shelf"] for call in talk.calls] == ["tea", "coffee", "cups"]
    said = await talk.interject("stop", ["cancelled", "skipped", "skipped"])
    assert "tea: cancelled. coffee: skipped. cups: skipped." in said
    assert "I stop here" in said
    assert talk.calls == ()


async def test_it_talks_about_the_chart_it_drew() -> None:
    talk = Talk()
    await talk.say("bar chart: apples 3, pears 5")
    said = await talk.calls_end(["done"])
    assert "highest is pears with 5" in said
    assert talk.last.finish == "stop"


async def test_it_owns_up_when_the_chart_failed() -> None:
    talk = Talk()
    await talk.say("draw a chart")
    assert "not drawn" in await talk.calls_end(["failed"])


async def test_it_asks_only_for_tools_on_offer() -> None:
    talk = Talk(tools=())
    assert "not enabled" in await talk.say("draw a chart")
    assert "not enabled" in await talk.say("do a long task")
    assert talk.last.finish == "stop"


async def test_a_long_task_reads_five_pages_and_says_that_one_may_interject() -> None:
    talk = Talk()
    said = await talk.say("do a long task")
    assert "five pages" in said
    assert "Write to me meanwhile" in said
    assert len(talk.commands) == 5
    assert talk.commands[0] == 'sleep 3; echo "page 1 of 5 read"'
    assert "Pages 1, 2, 3, 4 and 5: read." in await talk.calls_end(["done"] * 5)
    assert talk.commands == []


async def test_an_interjection_for_a_chart_is_told_what_was_done_and_gets_its_chart() -> None:
    talk = Talk()
    await talk.say("do a long task")
    said = await talk.interject("stop after this and draw a chart", ["done", "done", "skipped", "skipped", "skipped"])
    assert "“stop after this and draw a chart”" in said
    assert "Pages 1 and 2: read; pages 3, 4 and 5: skipped before starting." in said
    assert talk.chart["kind"] == "bar"


async def test_an_interjection_for_fewer_pages_is_followed() -> None:
    talk = Talk()
    await talk.say("do a long task")
    said = await talk.interject("only 3 pages", ["done", "cancelled", "skipped", "skipped", "skipped"])
    assert "page 2: cancelled while running" in said
    assert [command[-14:-1] for command in talk.commands] == ["e 2 of 5 read", "e 3 of 5 read"]
    assert "Pages 1, 2 and 3: read" in await talk.calls_end(["done", "done"])


async def test_an_interjection_for_pages_already_read_ends_the_task() -> None:
    talk = Talk()
    await talk.say("do a long task")
    said = await talk.interject("only two pages", ["done", "done", "skipped", "skipped", "skipped"])
    assert "read two pages" in said
    assert talk.commands == []


async def test_an_unknown_interjection_is_kept_in_mind_and_the_task_goes_on() -> None:
    talk = Talk()
    await talk.say("do a long task")
    said = await talk.interject("mind the footnotes", ["done", "done", "done", "done", "skipped"])
    assert "“mind the footnotes”" in said
    assert "I continue with page 5." in said
    assert talk.commands == ['sleep 3; echo "page 5 of 5 read"']


async def test_stopping_stops() -> None:
    talk = Talk()
    await talk.say("do a long task")
    said = await talk.interject("that's enough", ["done", "cancelled", "skipped", "skipped", "skipped"])
    assert "I stop here" in said
    assert talk.commands == []
    assert "pages 2, 3, 4 and 5" in await talk.say("go on")


async def test_after_a_restart_it_does_not_repeat_what_may_have_run() -> None:
    talk = Talk()
    await talk.say("do a long task")
    said = await talk.calls_end(["done", "unknown", "skipped", "skipped", "skipped"])
    assert "page 2: unknown" in said
    assert len(talk.commands) == 3


async def test_a_task_whose_calls_are_all_refused_does_not_go_round_in_circles() -> None:
    talk = Talk()
    await talk.say("do a long task")
    await talk.calls_end(["skipped"] * 5)
    assert talk.commands == []


async def test_cut_short_in_the_middle_of_a_sentence_it_follows_the_new_wish() -> None:
    talk = Talk()
    await talk.say("hello")
    said = await talk.interrupt("draw a pie chart")
    assert "You interrupted my answer" in said
    assert talk.chart["kind"] == "pie"


async def test_the_same_conversation_gets_the_same_answer() -> None:
    one, other = Talk(), Talk()
    for talk in (one, other):
        await talk.say("do a long task")
        await talk.interject("only 4 pages", ["done", "skipped", "skipped", "skipped", "skipped"])
    assert one.transcript == other.transcript


async def test_every_call_of_a_conversation_has_its_own_id() -> None:
    talk = Talk()
    await talk.say("do a long task")
    await talk.interject("only 4 pages", ["done", "skipped", "skipped", "skipped", "skipped"])
    ids = [call.id for exchange in talk.transcript if isinstance(exchange, ModelAnswered) for call in exchange.calls]
    assert len(ids) == len(set(ids)) == 8


async def test_a_stopped_task_is_not_gone_on_with_by_itself() -> None:
    talk = Talk()
    await talk.say("do a long task")
    await talk.stop(["cancelled", "skipped", "skipped", "skipped", "skipped"])
    answer = await talk.say("hello")
    assert talk.calls == ()
    assert "page" not in answer


@pytest.mark.parametrize(
    ("prompt", "drawn"),
    [
        ("a boat at night", "boat, moon, 3 × star, sea"),  # noqa: RUF001 - the sign for counts
        ("a garden with blue flowers", "3 × blue flower"),  # noqa: RUF001
        ("two red fish", "2 × red fish, sea"),  # noqa: RUF001
        ("a sad song", "circles, as none of its words has a shape in the demo"),
    ],
)
def test_what_belongs_to_the_things_of_a_picture_is_drawn_too(prompt: str, drawn: str) -> None:
    assert described(shapes_in(prompt)) == drawn
