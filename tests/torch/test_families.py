"""Every family of models, as users have it: its tokens are those of plain ``generate``."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from diplex.client import RawPrompt
from tests.fixtures.families import TEXT_FAMILIES
from tests.fixtures.seeing_families import SEEING_FAMILIES
from tests.torch import services
from workers.runtime.catalogue import Catalogue
from workers.runtime.store import Store
from workers.torch_worker.prepare import CheckpointToTorch

FAMILIES = (*TEXT_FAMILIES, *SEEING_FAMILIES)
PROMPTS = ("the model is", "to the user of the assistant and", "a")
PICTURES = ((70, 45), (45, 70), (64, 64))
"""Sizes."""
TOKENS = 16
CHUNK = 10
"""Tokens of a prompt that a step takes in: fewer than a picture has, which may be divided or not."""
TEXT_PARTS = {"blip-2": "language_model", "kosmos-2": "text_model"}
"""Of models that take no text alone."""
LOAD_SECONDS = 300


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    place = tmp_path_factory.mktemp("checkpoints")
    return {family.name: family.write(place / family.name) for family in FAMILIES}


@pytest.fixture(scope="module")
def stack(checkpoints, tmp_path_factory):
    """One worker for all, which makes room by itself; they are prepared here, to import torch once."""
    place = tmp_path_factory.mktemp("place")
    forms = {family.name: family.form for family in FAMILIES if family.form}
    seeing = [family.name for family in SEEING_FAMILIES]
    catalogue = services.write_catalogue(place / "models.toml", checkpoints, forms=forms, seeing=seeing)
    store, converter = Store(place / "home"), CheckpointToTorch()
    for name in checkpoints:
        store.ensure(Catalogue.load((catalogue,)).find(name).entry, "torch", "fp32", converter)
    options = ("--catalogue", catalogue, "--home", place / "home", "--memory-budget", "3000", "--slots", "4")
    options += ("--prefill-chunk", str(CHUNK), "--shared-prefill-chunk", str(CHUNK))
    with services.stack(tmp_path_factory.mktemp("stack"), "--model", FAMILIES[0].name, *options) as both:
        yield both


@pytest.fixture
def answered(stack):
    """Asks for the greedy tokens of inputs, one after the other and then all at once."""

    def ask(model, inputs, *, split=False):
        with stack.client() as client, ThreadPoolExecutor(len(inputs)) as pool:

            def tokens(given):
                text, pictures = given if isinstance(given, tuple) else (given, None)
                reply = client.generate(
                    text,
                    images=pictures,
                    model=model,
                    max_tokens=TOKENS,
                    temperature=0,
                    token_ids=True,
                    timeout=LOAD_SECONDS,
                    split_images=True if split and pictures else None,
                )
                return tuple(reply.token_ids)

            alone = [tokens(each) for each in inputs]
            return alone, list(pool.map(tokens, inputs))

    return ask


def generated(model, tokenizer, **given):
    """The token ids that plain ``generate`` gives, greedily, up to the end of the text."""
    prompt = given["input_ids"]
    with torch.inference_mode():
        if model.config.model_type in TEXT_PARTS and "pixel_values" not in given:
            model = getattr(model, TEXT_PARTS[model.config.model_type])
        [output] = model.generate(**given, do_sample=False, max_new_tokens=TOKENS).tolist()
    length = prompt.shape[1]
    new = output[length:] if output[:length] == prompt[0].tolist() else output
    end = tokenizer.eos_token_id
    return tuple(new[: new.index(end)] if end in new else new)


def in_form(family, processor, content):
    """A user's turn as a prompt, by transformers' own renderer."""
    template = (services.FORMS / f"{family.form}.jinja").read_text() if family.form else None
    turn = [{"role": "user", "content": content}]
    return processor.apply_chat_template(
        turn, chat_template=template, tokenize=False, add_generation_prompt=True
    )


@pytest.mark.parametrize("family", TEXT_FAMILIES, ids=lambda family: family.name)
def test_tokens_are_those_of_plain_generate(answered, checkpoints, family):
    """One by one, three at once, and in a conversation where the form of its prompts is the catalogue's."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoints[family.name])
    model = AutoModelForCausalLM.from_pretrained(checkpoints[family.name], dtype=torch.float32)
    inputs = [RawPrompt(prompt) for prompt in PROMPTS]
    given = [tokenizer(prompt, return_tensors="pt") for prompt in PROMPTS]
    if family.form:
        inputs.append("Hi there")
        text = in_form(family, tokenizer, "Hi there")
        given.append(tokenizer(text, return_tensors="pt", add_special_tokens=False))
    expected = [generated(model, tokenizer, **each) for each in given]
    assert len(set(expected)) == len(expected)
    alone, together = answered(family.name, inputs)
    assert alone == expected
    assert together == expected


@pytest.mark.parametrize("family", SEEING_FAMILIES, ids=lambda family: family.name)
def test_what_is_seen_is_what_plain_generate_sees(answered, checkpoints, family):
    """One picture or two beside a text without, one by one and all at once."""
    _, processor = family.make()
    model = AutoModelForImageTextToText.from_pretrained(checkpoints[family.name], dtype=torch.float32)
    pictures = [noise(*size, seed) for seed, size in enumerate(PICTURES, 1)]
    shown = [[picture] for picture in pictures] + [pictures[-family.most :], []]
    expected = [
        generated(model, processor.tokenizer, **processed(family, processor, "Hi", each)) for each in shown
    ]
    assert len(set(expected)) >= len(PICTURES) + family.most
    inputs = [("Hi", [png(picture) for picture in each]) for each in shown]
    alone, together = answered(family.name, inputs, split=family.split)
    assert alone == expected
    assert together == expected


@pytest.mark.parametrize("family", SEEING_FAMILIES, ids=lambda family: family.name)
def test_pictures_come_to_as_many_tokens_as_for_the_processor(stack, family):
    _, processor = family.make()
    picture = noise(*PICTURES[0], 1)
    asked = {
        "images": [png(picture)],
        "model": family.name,
        "split_images": family.split or None,
        "timeout": LOAD_SECONDS,
    }
    with stack.client() as client:
        counted = client.count_tokens("Hi", **asked)
        usage = client.generate("Hi", max_tokens=1, **asked).receipt.usage
    assert counted.tokens == usage.prompt_tokens
    assert counted.tokens == processed(family, processor, "Hi", [picture])["input_ids"].shape[1]
    assert counted.image_tokens == usage.image_tokens > 0


def processed(family, processor, text, pictures):
    """What a family's own processor makes of a user's turn."""
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
    text = in_form(family, processor, content)
    if not family.marked:
        text = text.replace("<image>", "")
    options = {"return_tensors": "pt", "add_special_tokens": False}
    if not pictures:
        return processor.tokenizer(text, **options)
    options |= family.options
    if options["add_special_tokens"]:
        text = text.removeprefix(processor.tokenizer.bos_token)
    return processor(text=[text], images=pictures, **options)


def noise(width, height, seed):
    """The brighter the higher the seed."""
    pixels = np.random.default_rng(seed).integers(0, 85 * seed, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
