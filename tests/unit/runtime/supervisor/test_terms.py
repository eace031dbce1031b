from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from workers.runtime.catalogue import Catalogue, ServingWishes
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.supervisor.terms import ServingConfig, terms_of

ENTRY = Catalogue.load().find("smollm2").entry
CONFIG = EngineConfig(Path(), threads=8)


def terms(serving=None, **wishes):
    entry = replace(ENTRY, serving=ServingWishes(**wishes))
    return terms_of(entry, "int8", serving or ServingConfig(), CONFIG, 7)


def test_what_holds_for_all_unless_the_catalogue_wishes_otherwise():
    plain = terms(ServingConfig(keep_alive=60))
    assert (plain.config, plain.share, plain.pinned, plain.keep_alive, plain.lasting) == (
        CONFIG,
        7,
        False,
        60,
        False,
    )
    own = terms(ServingConfig(keep_alive=60), pinned=True, keep_alive=0.0, threads=2)
    assert (own.config.threads, own.pinned, own.keep_alive) == (2, True, 0.0)


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        ("SMOLLM2", True),
        ("smollm2-135m-instruct/INT8", True),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", True),
        ("smollm2/fp32", False),
        ("smollm", False),
    ],
)
def test_pins_are_names_aliases_or_profiles(name, pinned):
    assert terms(ServingConfig(pinned=(name,))).pinned is pinned


def test_a_share_of_what_the_worker_leaves():
    assert ServingConfig(memory_budget=100, residents=3).share(own=10) == 30
    assert ServingConfig(memory_budget=100).share(own=200) == 0
    assert ServingConfig().share(own=10) is None
