"""Trains the small seeing model: `python -m tools.seeing.train FOLDER`; about twenty minutes on one core.

It goes on where it was stopped: what is done is kept in FOLDER.work. At its end FOLDER is a checkpoint as
hubs publish them. How it learns:

1. The vision tower and the connector learn alone, under linear heads that are thrown away, what is drawn in
which
   colour before which background. Without this, the text model learns to write captions long before there is
   anything to be seen in its input.
2. All learns to answer: the loss is on the assistant's words.
3. The same once more, slowly, on other batches.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from tools.seeing import lessons
from tools.seeing.drawings import BACKGROUNDS, Drawing, draw
from tools.seeing.parts import (
    CHAT_TEMPLATE,
    LONGEST_EDGE,
    ROWS,
    TILE,
    new_model,
    new_processor,
    new_tokenizer,
)

DRAWINGS: Final = 9000
SQUARE_FROM: Final = 7500
"""The drawings from here on are square, so that all have the same tiles."""
SEEING_STEPS: Final = 500
ANSWERING_STEPS: Final = 1000
POLISHING_STEPS: Final = 300
BATCH: Final = 48
TILED_BATCH: Final = 16
RATE: Final = 1.2e-3
POLISHING_RATE: Final = 3e-4
VISION_RATE: Final = 0.4
"""Of the rate, what the vision tower and the connector get in the second part."""
SPREAD: Final = 0.5
"""Standard deviation of the connector's output when the text model first sees it."""
IGNORED: Final = -100


class Course:
    """Drawings as pixels, and lessons about them as tokens."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.drawings, self.whole, self.tiles = _drawn(work / "drawings.npz")
        self.phrases = sorted({drawing.phrase for drawing in self.drawings})
        if not (folder / "tokenizer.json").exists():
            new_processor(new_tokenizer(self._texts())).save_pretrained(folder)
        from transformers import AutoProcessor  # noqa: PLC0415  # reads what was just written

        self.processor = AutoProcessor.from_pretrained(folder)

    def _texts(self) -> Iterator[str]:
        rng = random.Random(1)
        for number, drawing in enumerate(self.drawings[:3000]):
            for message in lessons.about_one(rng, number, drawing, 2).messages:
                yield f"{message['role'].capitalize()}: {message['content'][-1]['text']}"
        yield lessons.NO_PICTURE
        yield from (Path(__file__).parents[2] / "workers/runtime/fidelity/text.txt").read_text().splitlines()

    def labels(self, numbers: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of phrase and background."""
        backgrounds = sorted(BACKGROUNDS)
        chosen = [self.drawings[number] for number in numbers]
        return (
            torch.tensor([self.phrases.index(drawing.phrase) for drawing in chosen]),
            torch.tensor([backgrounds.index(drawing.background) for drawing in chosen]),
        )

    def batch(self, rng: random.Random, step: int) -> dict[str, torch.Tensor | None]:
        """A batch of the second part: every fourth with tiles, every sixth of two drawings.

        A fifth of them have two questions.
        """
        turns = 2 if step % 5 == 0 else 1
        if step % 4 == 3:  # see above
            numbers = [rng.randrange(SQUARE_FROM, DRAWINGS) for _ in range(TILED_BATCH)]
            chosen = [lessons.about_one(rng, n, self.drawings[n], turns) for n in numbers]
            pixels = self.tiles[[n - SQUARE_FROM for n in numbers]]
            return self._collated(chosen, pixels, tiled=True)
        if step % 6 == 1:
            pairs = [rng.sample(range(DRAWINGS), 2) for _ in range(BATCH // 2)]
            chosen = [lessons.about_two(rng, pair, [self.drawings[n] for n in pair]) for pair in pairs]
            return self._collated(chosen, self.whole[np.array(pairs)])
        if step % 40 == 0:
            return self._collated([lessons.without_picture(rng) for _ in range(BATCH // 2)], None)
        numbers = [rng.randrange(DRAWINGS) for _ in range(BATCH)]
        chosen = [lessons.about_one(rng, n, self.drawings[n], turns) for n in numbers]
        return self._collated(chosen, self.whole[numbers][:, None])

    def _collated(
        self, chosen: Sequence[lessons.Lesson], pixels: np.ndarray[Any, Any] | None, *, tiled: bool = False
    ) -> dict[str, torch.Tensor | None]:
        rows = [self._tokens(lesson, tiled=tiled) for lesson in chosen]
        width = max(len(ids) for ids, _ in rows)
        pad = self.processor.tokenizer.pad_token_id
        ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows])
        labels = torch.tensor([told + [IGNORED] * (width - len(told)) for _, told in rows])
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows])
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": labels,
            "pixel_values": None if pixels is None else normalised(pixels),
        }

    def _tokens(self, lesson: lessons.Lesson, *, tiled: bool) -> tuple[list[int], list[int]]:
        """Token ids, and the same with all ignored that isn't the assistant's."""
        tokenizer, ids, labels = self.processor.tokenizer, [], []
        for turn, message in enumerate(lesson.messages):
            text = self.processor.apply_chat_template(
                [message], add_generation_prompt=message["role"] == "user", chat_template=CHAT_TEMPLATE
            )
            text = text if turn == 0 else text.removeprefix("<|im_start|>")
            said = message["role"] == "assistant"
            if said:
                text = text.removeprefix("Assistant:")
            piece = tokenizer(text.replace("<image>", _expansion(tiled=tiled)))["input_ids"]
            ids += piece
            labels += piece if said else [IGNORED] * len(piece)
        return ids, labels


def _drawn(file: Path) -> tuple[list[Drawing], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The drawings (without their images), each as one tile, and the square ones' tiles; drawn once."""
    if not file.exists():
        drawings = [draw(n, square=n >= SQUARE_FROM) for n in range(DRAWINGS)]
        np.savez(
            file,
            told=np.array([(drawing.kind, drawing.phrase, drawing.background) for drawing in drawings]),
            whole=np.stack([_squashed(drawing.image) for drawing in drawings]),
            tiles=np.stack([_tiles(drawing.image) for drawing in drawings[SQUARE_FROM:]]),
        )
    saved = np.load(file)
    empty = Image.new("RGB", (1, 1))
    told = [Drawing(empty, *(str(each) for each in row)) for row in saved["told"]]
    return told, saved["whole"], saved["tiles"]


def _expansion(*, tiled: bool) -> str:
    rows, fake = "<image>" * ROWS, "<fake_token_around_image>"
    whole = f"{fake}<global-img>{rows}{fake}"
    if not tiled:
        return whole
    grid = "".join(
        "".join(f"{fake}<row_{row}_col_{column}>{rows}" for column in (1, 2)) + "\n" for row in (1, 2)
    )
    return f"{grid}\n{whole}"


def _squashed(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.resize((TILE, TILE), Image.Resampling.LANCZOS)).transpose(2, 0, 1)


def _tiles(image: Image.Image) -> np.ndarray[Any, Any]:
    """Those of a square picture, and the whole, uint8 [5, 3, TILE, TILE]."""
    large = image.resize((LONGEST_EDGE, LONGEST_EDGE), Image.Resampling.LANCZOS)
    corners = [(x, y) for y in (0, TILE) for x in (0, TILE)]
    pieces = [np.asarray(large.crop((x, y, x + TILE, y + TILE))).transpose(2, 0, 1) for x, y in corners]
    return np.stack([*pieces, _squashed(large)])


def normalised(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    """Float32 from -1 to 1 of uint8, the same shape."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float() / 127.5 - 1


def features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What the connector makes of tiles [n, 3, TILE, TILE]: [n, ROWS, hidden]."""
    core = model.model
    hidden = core.vision_model(pixel_values=pixels).last_hidden_state
    return core.connector(hidden)


def learn_to_see(model: Any, course: Course, work: Path, until: float) -> bool:
    """The first part. False if it has to go on later."""
    core = model.model
    heads = nn.ModuleList([nn.Linear(128, len(course.phrases)), nn.Linear(128, len(BACKGROUNDS))])
    learnt = nn.ModuleList([core.vision_model, core.connector, heads])
    optimiser = torch.optim.AdamW(learnt.parameters(), lr=RATE, weight_decay=0.02)
    for step in range(_resumed(work / "seeing.part.pt", learnt, optimiser), SEEING_STEPS):
        if time.monotonic() > until:
            return _kept(work / "seeing.part.pt", learnt, optimiser, step)
        _set_rate(optimiser, step / SEEING_STEPS)
        rng = random.Random(f"seeing {step}")
        numbers = [rng.randrange(DRAWINGS) for _ in range(BATCH)]
        seen = features(model, normalised(course.whole[numbers])).mean(1)
        told = [head(seen) for head in heads]
        losses = [functional.cross_entropy(*pair) for pair in zip(told, course.labels(numbers), strict=True)]
        _learn(optimiser, learnt, sum(losses))
        if step % 50 == 0:
            right = (told[0].argmax(1) == course.labels(numbers)[0]).float().mean().item()
            print(f"seeing {step}: loss {sum(losses).item():.3f}, phrases {right:.2f}", flush=True)
    with torch.no_grad():
        spread = features(model, normalised(course.whole[:256])).std()
        core.connector.modality_projection.proj.weight *= SPREAD / spread
    return True


def learn_to_answer(
    model: Any, course: Course, work: Path, until: float, *, part: str, steps: int, rate: float
) -> bool:
    """The second part, or the third. False if it has to go on later."""
    core = model.model
    eyes = [*core.vision_model.parameters(), *core.connector.parameters()]
    known = {id(p) for p in eyes}
    others = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": eyes, "scale": VISION_RATE}, {"params": others, "scale": 1.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.02)
    for step in range(_resumed(work / f"{part}.part.pt", model, optimiser), steps):
        if time.monotonic() > until:
            return _kept(work / f"{part}.part.pt", model, optimiser, step)
        _set_rate(optimiser, step / steps, rate)
        batch = course.batch(random.Random(f"{part} {step}"), step)
        loss = model(**{name: value for name, value in batch.items() if value is not None}).loss
        _learn(optimiser, model, loss)
        if step % 50 == 0:
            print(f"{part} {step}: loss {loss.item():.4f}", flush=True)
    return True


def _learn(optimiser: torch.optim.Optimizer, learnt: nn.Module, loss: Any) -> None:
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(learnt.parameters(), 1.0)
    optimiser.step()


def _resumed(file: Path, learnt: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """The step to go on with."""
    if not file.exists():
        return 0
    saved = torch.load(file)
    learnt.load_state_dict(saved["learnt"])
    optimiser.load_state_dict(saved["optimiser"])
    return int(saved["step"])


def _kept(file: Path, learnt: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> bool:
    """Keeps what there is, to go on with this step; False, as not all is done."""
    saved = {"learnt": learnt.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    torch.save(saved, file)
    return False


def _set_rate(optimiser: torch.optim.Optimizer, part: float, rate: float = RATE) -> None:
    """Rises over the first twentieth, then falls like a cosine."""
    rise = min(part / 0.05 + 0.02, 1.0)
    fall = 0.02 + 0.98 * (1 + math.cos(math.pi * part)) / 2
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("scale", 1.0) * rise * fall


def held_out_score(model: Any, processor: Any, numbers: Sequence[int], *, split: bool = False) -> float:
    """The part of drawings never trained on whose kind is named."""
    right = 0
    for number in numbers:
        drawing: Drawing = draw(number)
        question = lessons.DESCRIBE[number % len(lessons.DESCRIBE)]
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
        text = processor.apply_chat_template([message], add_generation_prompt=True)
        given = processor(text=text, images=[drawing.image], return_tensors="pt", do_image_splitting=split)
        with torch.no_grad():
            ids = model.generate(**given, max_new_tokens=24, do_sample=False)
        answer = processor.tokenizer.decode(ids[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
        right += drawing.kind in answer
        if number % 40 == 0:
            print(f"  {drawing.caption!r}: {answer!r}")
    return right / len(numbers)


def main() -> None:
    """Trains as far as the time goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop then; call again to go on")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    torch.manual_seed(0)
    folder, work = options.folder, options.folder.with_name(options.folder.name + ".work")
    folder.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    course = Course(folder, work)
    model = new_model(course.processor.tokenizer)
    if (work / "seeing.pt").exists():
        model.load_state_dict(torch.load(work / "seeing.pt"))
    elif learn_to_see(model, course, work, until):
        torch.save(model.state_dict(), work / "seeing.pt")
    else:
        print("to be continued")
        return
    for part, steps, rate in (
        ("answering", ANSWERING_STEPS, RATE),
        ("polishing", POLISHING_STEPS, POLISHING_RATE),
    ):
        if (work / f"{part}.pt").exists():
            model.load_state_dict(torch.load(work / f"{part}.pt"))
        elif learn_to_answer(model, course, work, until, part=part, steps=steps, rate=rate):
            torch.save(model.state_dict(), work / f"{part}.pt")
        else:
            print("to be continued")
            return
    model.to(torch.bfloat16).save_pretrained(folder)
    model.float().eval()
    from tools.seeing.drawings import HELD_OUT  # noqa: PLC0415

    for split in (False, True):
        score = held_out_score(model, course.processor, range(HELD_OUT, HELD_OUT + 120), split=split)
        print(f"held out, split={split}: {score:.3f}")


if __name__ == "__main__":
    main()
