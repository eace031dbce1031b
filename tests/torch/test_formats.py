"""What shows of a folder before it is prepared, to models that no catalogue knows."""

import json

import pytest

from diplex.errors import UnsupportedModel
from tests.fixtures.random_checkpoint import write_checkpoint
from tests.fixtures.seeing_families import SEEING_FAMILIES
from workers.torch_worker.formats import TorchFormats


def looked_at(folder):
    return TorchFormats().look_at_folder(folder, "safetensors", ())


@pytest.mark.parametrize("family", SEEING_FAMILIES, ids=lambda family: family.name)
def test_models_with_known_eyes_take_pictures(family, tmp_path):
    assert looked_at(family.write(tmp_path)).images


def test_text_models_take_none(tmp_path):
    facts = looked_at(write_checkpoint(tmp_path))
    assert (facts.architecture, facts.images, facts.context_length) == ("llama", False, 256)


@pytest.mark.parametrize(("model_type", "refused"), [("llama", False), ("mystery", True)])
def test_code_matters_only_where_transformers_does_not_know_the_architecture(tmp_path, model_type, refused):
    folder = write_checkpoint(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": model_type, "auto_map": {"AutoConfig": "configuration.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    if refused:
        with pytest.raises(UnsupportedModel, match="--allow-remote-code NAME"):
            looked_at(folder)
    else:
        assert looked_at(folder).architecture == "llama"
