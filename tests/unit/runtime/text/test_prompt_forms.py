"""The chat templates of ours, for checkpoints without one: the forms as their makers describe them."""

import pytest

from diplex.errors import InvalidRequest
from workers.runtime.catalogue import CURATED
from workers.runtime.text.template import ChatTemplate

FOLDER = CURATED.parent / "templates"
TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye"},
]
ENDS = {"bos_token": "<s>", "eos_token": "</s>"}
SYSTEM = {"role": "system", "content": "Be brief."}

ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
ALPACA_TURNS = "### Instruction:\nHi\n\n### Response:\nHello!</s>\n\n### Instruction:\nBye\n\n### Response:"
FORMS = {
    "llama2": (
        "<s>[INST] Hi [/INST] Hello! </s><s>[INST] Bye [/INST]",
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello! </s><s>[INST] Bye [/INST]",
    ),
    "mistral": (
        "<s>[INST] Hi [/INST] Hello!</s>[INST] Bye [/INST]",
        "<s>[INST] Be brief.\n\nHi [/INST] Hello!</s>[INST] Bye [/INST]",
    ),
    "alpaca": (f"{ALPACA}\n\n{ALPACA_TURNS}", f"Be brief.\n\n{ALPACA_TURNS}"),
    "phi2": (
        "Instruct: Hi\nOutput: Hello!\nInstruct: Bye\nOutput:",
        "Be brief.\nInstruct: Hi\nOutput: Hello!\nInstruct: Bye\nOutput:",
    ),
    "vicuna": (
        "<s>USER: Hi ASSISTANT: Hello!</s>USER: Bye ASSISTANT:",
        "<s>Be brief. USER: Hi ASSISTANT: Hello!</s>USER: Bye ASSISTANT:",
    ),
    "blip2": (
        "<s>Question: Hi Answer: Hello!. Question: Bye Answer:",
        "<s>Be brief. Question: Hi Answer: Hello!. Question: Bye Answer:",
    ),
    "kosmos2": (
        "<s>Question: Hi Answer: Hello! Question: Bye Answer:",
        "<s>Be brief. Question: Hi Answer: Hello! Question: Bye Answer:",
    ),
}


def render(form, messages):
    source = (FOLDER / f"{form}.jinja").read_text()
    return ChatTemplate(source, **ENDS).render(messages)


def test_every_form_is_known_here():
    assert {file.stem for file in FOLDER.glob("*.jinja")} == FORMS.keys()


@pytest.mark.parametrize("form", FORMS)
def test_turns(form):
    assert render(form, TURNS) == FORMS[form][0]


@pytest.mark.parametrize("form", FORMS)
def test_a_system_message_comes_first(form):
    assert render(form, [SYSTEM, *TURNS]) == FORMS[form][1]


@pytest.mark.parametrize("form", FORMS)
def test_roles_that_a_form_has_no_words_for_are_refused(form):
    with pytest.raises(InvalidRequest, match="knows no role tool"):
        render(form, [*TURNS, {"role": "tool", "content": "1"}])


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("vicuna", "<s>USER: <image>\nHi ASSISTANT:"),
        ("blip2", "<image><s>Question: Hi Answer:"),
        ("kosmos2", "<s><image> Question: Hi Answer:"),
    ],
)
def test_pictures_stand_before_words(form, expected):
    content = [{"type": "text", "text": "Hi"}, {"type": "image"}]
    assert render(form, [{"role": "user", "content": content}]) == expected


def test_a_text_that_asks_for_grounding_is_taken_as_it_is():
    content = [{"type": "image"}, {"type": "text", "text": "<grounding>An image of"}]
    assert render("kosmos2", [{"role": "user", "content": content}]) == "<s><image> <grounding>An image of"
