"""Settings from file, environment and options to a checked configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge

from gateway.config import GatewayConfig
from gateway.configuration import reference
from gateway.configuration.keys import keys_of
from gateway.configuration.loading import load
from gateway.configuration.problems import InvalidConfiguration
from gateway.configuration.sources import Setting


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs tokens."""

    url: str = ""
    """Where its keys are."""
    audiences: tuple[str, ...] = ()
    """Whom tokens are for."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Who is let in."""

    policy: Literal["open", "closed"] = "open"
    """Whether anybody is."""
    seats: Annotated[int, Ge(1)] = 4
    """How many
    at a time."""
    reserved: int = 0
    """How many of them are kept."""
    admin_token: str = ""
    """Opens everything."""
    pin: str = field(default="", metadata={"secret": True, "variable": "DIPLEX_PIN_CODE"})
    """Opens the back."""
    quotas: dict[str, int] = field(default_factory=dict)
    """Name -> seats."""
    issuer: Issuer = Issuer()

    def __post_init__(self) -> None:
        if self.reserved > self.seats:
            raise ValueError(f"reserved ({self.reserved}) is more than seats ({self.seats})")


@dataclass(frozen=True, slots=True)
class House:
    """The whole."""

    listen: str = "here"
    """Where."""
    limit: float | None = None
    """Seconds; unset for ever."""
    folder: Path = Path("/srv")
    """Where things are."""
    quiet: bool = False
    """Says nothing."""
    doors: Doors = Doors()


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "house.toml"
        path.write_text(text)
        return path

    return write


def problems(**arguments):
    with pytest.raises(InvalidConfiguration) as caught:
        load(House, **{"environment": {}} | arguments)
    return caught.value.problems


def test_without_sources_all_is_default():
    loaded = load(House, environment={})
    assert loaded.config == House()
    assert {setting.source for setting in loaded.settings.values()} == {"default"}
    assert set(loaded.settings) == set(keys_of(House))


def test_options_win_over_environment_over_file(file):
    path = file('listen = "file"\nquiet = true\nlimit = 3\n[doors]\nseats = 9\npolicy = "closed"')
    loaded = load(
        House,
        file=path,
        environment={"DIPLEX_LISTEN": "variable", "DIPLEX_DOORS_SEATS": "8", "DIPLEX_LIMIT": "2.5"},
        options={"listen": Setting("option", "--listen")},
        assignments=("doors.seats=7",),
    )
    assert loaded.config == House("option", 2.5, quiet=True, doors=Doors("closed", 7))
    told = {name: setting.source for name, setting in loaded.settings.items()}
    assert (told["listen"], told["limit"], told["doors.seats"]) == (
        "--listen",
        "DIPLEX_LIMIT",
        "--set doors.seats",
    )
    assert told["quiet"] == str(path)


def test_the_environment_names_the_file(file):
    path = file("quiet = true")
    assert load(House, environment={"DIPLEX_CONFIG": str(path)}).config.quiet


def test_texts_become_what_keys_hold():
    environment = {
        "DIPLEX_QUIET": "true",
        "DIPLEX_FOLDER": "/tmp/x",  # noqa: S108  # nothing is written there
        "DIPLEX_DOORS_POLICY": "CLOSED",
        "DIPLEX_DOORS_QUOTAS": '{"a": 2}',
        "DIPLEX_DOORS_ISSUER_AUDIENCES": " a, b\nc,a ",
        "DIPLEX_PIN_CODE": "12",
        "DIPLEX_LIMIT": "",
    }
    config = load(House, environment=environment).config
    assert (config.quiet, config.folder, config.limit) == (True, Path("/tmp/x"), None)  # noqa: S108
    assert config.doors == Doors(
        "closed", pin="12", quotas={"a": 2}, issuer=Issuer(audiences=("a", "b", "c"))
    )


def test_every_fault_is_named_with_source_key_and_what_is_allowed(file):
    path = file('limit = "long"\n[doors]\nseats = 0\npolicy = "ajar"\n[doors.quotas]\na = "many"')
    told = problems(file=path, environment={"DIPLEX_QUIET": "perhaps"})
    assert len(told) == 5
    text = "\n".join(told)
    assert f"{path}: limit: should be a valid number" in text
    assert f"{path}: doors.seats: should be greater than or equal to 1 (it is 0)" in text
    assert f"{path}: doors.policy: should be 'open' or 'closed' (it is 'ajar')" in text
    assert f"{path}: doors.quotas: a: should be a valid integer" in text
    assert "DIPLEX_QUIET: quiet: should be a valid boolean" in text


def test_what_a_section_finds_wrong_names_section_and_source(file):
    (told,) = problems(file=file("[doors]\nreserved = 5"))
    assert told.endswith("house.toml: doors: reserved (5) is more than seats (4)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lisen = 1", "unknown key lisen; did you mean listen?"),
        ("[doors]\nseat = 1", "unknown key doors.seat; did you mean doors.seats?"),
        ("[doors.issuer]\nurll = 1", "unknown key doors.issuer.urll; did you mean doors.issuer.url?"),
        ("[dors]\nseats = 1", "unknown key dors"),
        ("zzz = 1", "unknown key zzz; `diplex config --reference` lists what there is"),
        ("doors = 1", "doors: is a section, and needs a table"),
        ("listen = ", "is not valid TOML"),
    ],
)
def test_files_that_are_wrong(file, text, expected):
    (told,) = problems(file=file(text))
    assert "house.toml: " in told
    assert expected in told


def test_a_file_that_is_not_there(tmp_path):
    (told,) = problems(file=tmp_path / "none.toml")
    assert "none.toml: can't be read" in told


def test_variables_that_look_like_a_sections(monkeypatch):
    (told,) = problems(environment={"DIPLEX_DOORS_SEAT": "3", "DIPLEX_MODEL": "a worker's"})
    assert told == "unknown variable DIPLEX_DOORS_SEAT; did you mean DIPLEX_DOORS_SEATS?"


def test_assignments_that_are_wrong():
    assert problems(assignments=("listen", "doors.seets=3")) == (
        "--set listen: needs KEY=VALUE",
        "--set doors.seets=3: unknown key doors.seets; did you mean doors.seats?",
    )


def test_secrets_are_shown_nowhere():
    environment = {"DIPLEX_DOORS_ADMIN_TOKEN": "hunter2", "DIPLEX_PIN_CODE": "hunter2"}
    printed = reference.effective(load(House, environment=environment))
    assert "hunter2" not in printed
    assert 'admin_token = "***"  # DIPLEX_DOORS_ADMIN_TOKEN' in printed
    assert "***" not in reference.effective(load(House, environment={}))


def test_what_is_printed_is_a_file_that_means_the_same(file):
    environment = {"DIPLEX_DOORS_QUOTAS": '{"a b": 2}', "DIPLEX_LISTEN": 'say "hi"', "DIPLEX_QUIET": "1"}
    loaded = load(House, environment=environment)
    again = load(House, file=file(reference.effective(loaded)), environment={})
    assert again.config == loaded.config


def test_the_example_is_a_file_that_changes_nothing_until_lines_are_taken_in(file):
    text = reference.example(GatewayConfig)
    assert load(GatewayConfig, file=file(text), environment={}).config == GatewayConfig()
    assigned = "\n".join(
        line.removeprefix("# ") for line in text.splitlines() if " = " in line or line.startswith("[")
    )
    keys = [line for line in assigned.splitlines() if not line.endswith("=")]
    assert load(GatewayConfig, file=file("\n".join(keys)), environment={}).config == GatewayConfig()


def test_every_key_of_the_gateway_is_described_and_has_a_variable_of_its_own():
    keys = list(keys_of(GatewayConfig).values())
    assert [key.path for key in keys if not key.description.endswith(".")] == []
    assert len({key.variable for key in keys}) == len(keys)
