"""Secrets of the gateway are masked in requests."""

from agent.events import Delta
from agent.log import Call, ForeignText, MessagesRead, ModelAnswered, Native, Text, Thinking, UserMessage
from agent.masking import Mask
from agent.model import Request
from agent.models.masking import MaskingModel
from agent.models.scripted import ScriptedModel
from agent.transcript import Exchange, Result, Results, SystemNote

KEY = "sk-very-secret-4711"
CALL = Call("c1", "shell", f'{{"command": "echo {KEY}"}}')


async def ignore(delta: Delta) -> None:
    pass


async def sent(request: Request) -> Request:
    inner = ScriptedModel()
    await MaskingModel(inner, Mask([KEY])).answer(request, ignore)
    return inner.requests[0]


async def test_it_is_masked_wherever_it_stands() -> None:
    transcript: tuple[Exchange, ...] = (
        MessagesRead(1, (UserMessage(1, "Ann", f"my key is {KEY}", note=f"quoting: {KEY}"),)),
        ModelAnswered(
            1, (Thinking(f"so {KEY}", "signed"), Text(f"Using {KEY}"), Native("anthropic", f'{{"q": "{KEY}"}}'), CALL)
        ),
        Results((Result(CALL, "done", f"{KEY}\n"),)),
        SystemNote(f"The turn ended: {KEY}"),
    )
    request = await sent(Request(f"Be kind. {KEY}", transcript))
    assert request.instructions == "Be kind. [secret]"
    read, answered, results, notice = request.transcript
    assert isinstance(read, MessagesRead)
    assert (read.messages[0].text, read.messages[0].note) == ("my key is [secret]", "quoting: [secret]")
    assert isinstance(answered, ModelAnswered)
    assert answered.parts == (
        # What is changed is not what was signed.
        Thinking("so [secret]", None),
        Text("Using [secret]"),
        Native("anthropic", '{"q": "[secret]"}'),
        Call("c1", "shell", '{"command": "echo [secret]"}'),
    )
    assert isinstance(results, Results)
    assert results.results[0].text == "[secret]\n"
    assert notice == SystemNote("The turn ended: [secret]")


async def test_it_is_masked_in_text_from_outside_and_in_its_sources() -> None:
    source = f"https://a.example/?key={KEY}"
    request = await sent(
        Request(
            "",
            (
                MessagesRead(1, (UserMessage(1, f"Ann {KEY}", "see this", foreign=(ForeignText(source, KEY),)),)),
                ModelAnswered(1, (CALL,)),
                Results((Result(CALL, "done", "nothing", foreign=(source,)),)),
                SystemNote("A summary", summary=True, foreign=(source,)),
            ),
        )
    )
    masked = "https://a.example/?key=[secret]"
    read, _, results, note = request.transcript
    assert isinstance(read, MessagesRead)
    assert read.messages[0] == UserMessage(1, "Ann [secret]", "see this", foreign=(ForeignText(masked, "[secret]"),))
    assert isinstance(results, Results)
    assert results.results[0].foreign == (masked,)
    assert note == SystemNote("A summary", summary=True, foreign=(masked,))


async def test_reasoning_without_a_secret_keeps_its_signature() -> None:
    thinking = Thinking("hm", "signed")
    request = await sent(Request("", (ModelAnswered(1, (thinking, Text(KEY))),)))
    (answered,) = request.transcript
    assert isinstance(answered, ModelAnswered)
    assert answered.parts == (thinking, Text("[secret]"))


async def test_a_request_without_secrets_goes_out_as_it_is() -> None:
    request = Request(
        "Be kind.", (MessagesRead(1, (UserMessage(1, "Ann", "Hello"),)), ModelAnswered(1, (Text("Hi."), CALL)))
    )
    clean = Request("Be kind.", (request.transcript[0],))
    assert await sent(clean) is clean
    assert await sent(request) is not request
