"""Our preprocessing against the reference's.

`python -m tests.parity.test_idefics3_preprocessing` writes digests of what the reference gives, by which the
suite without torch notices a change too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from tests.fixtures.preprocessing_cases import cases, digest, picture
from workers.runtime.vision import Idefics3, Size

transformers = pytest.importorskip("transformers")

GOLDEN = Path(__file__).parents[1] / "fixtures/preprocessing_digests.json"
ALL = list(cases())


def reference(description, image, options):
    """What stands in the prompt, and the tiles, by transformers."""
    grid = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    marks = [
        "<pad>",
        "<image>",
        "<fake_token_around_image>",
        "<global-img>",
        "<end_of_utterance>",
        "\n",
        *grid,
    ]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({m: i for i, m in enumerate(marks)}, "<pad>"))
    backend.add_special_tokens(marks)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=marks[0])
    edge = options.longest_edge or (description.longest_edge if options.split else description.tile_size)
    images = transformers.Idefics3ImageProcessorPil(
        size={"longest_edge": edge},
        max_image_size={"longest_edge": description.tile_size},
        image_mean=description.mean,
        image_std=description.std,
        resample=description.resample,
        do_image_splitting=options.split,
    )
    processor = transformers.Idefics3Processor(images, tokenizer, image_seq_len=description.tile_rows)
    given = processor(text="<image>", images=[image], return_tensors="np")
    assert given["pixel_attention_mask"].all()  # so the engine needs no masks
    text = "".join(tokenizer.convert_ids_to_tokens(given["input_ids"][0].tolist()))
    return text, list(given["pixel_values"][0])


@pytest.mark.parametrize(("label", "description", "size", "options"), ALL, ids=[case[0] for case in ALL])
def test_ids_are_identical_and_pixels_too(label, description, size, options):
    image, ours = picture(*size), Idefics3(description)
    layout, tiles = ours.layout(Size(*size), options), ours.tiles(image, options)
    text, expected = reference(description, image, options)
    assert layout.text == text
    assert len(layout.rows) == len(expected)
    for index, tile in enumerate(expected):
        np.testing.assert_allclose(tiles.pixels(index)[0], tile, rtol=0, atol=1e-6)
    assert json.loads(GOLDEN.read_text())[label] == digest(text, expected)


if __name__ == "__main__":
    digests = {
        label: digest(*reference(description, picture(*size), options))
        for label, description, size, options in cases()
    }
    GOLDEN.write_text(json.dumps(digests, indent=1) + "\n")
