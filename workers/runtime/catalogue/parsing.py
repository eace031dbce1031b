"""From the text of a catalogue file to its entries, with every rule of the file checked."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from diplex.errors import InvalidCatalogue
from workers.runtime.catalogue.artefacts import SHA256, read_artefact
from workers.runtime.catalogue.entries import (
    BackendEntry,
    Capability,
    ModelEntry,
    Profile,
    SamplingDefaults,
    ServingWishes,
    Terms,
)
from workers.runtime.catalogue.table import NAME, Table
from workers.runtime.fidelity.certificate import Certificate

_MODEL_NAME = rf"{NAME}|hf:{NAME}/{NAME}(@{NAME})?(/{NAME})*|local:{NAME}"
"""Also the names of models that were adopted (:mod:`workers.runtime.adoption`)."""
BACKENDS = ("onnx", "torch")


def read_entries(file: Path) -> tuple[ModelEntry, ...]:
    """The entries of one catalogue file, in its order: TOML, or by the end of its name JSON.

    Raises:
        InvalidCatalogue: The file can't be read, isn't TOML, or breaks a rule.
    """
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InvalidCatalogue(f"{file}: can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # TOML's, JSON's and UTF-8's errors are all of this kind
        raise InvalidCatalogue(f"{file}: is not {file.suffix[1:].upper()}: {error}") from error
    root = Table(file, "", values)
    models = root.tables("model")
    root.close()
    entries = tuple(_entry(table, number) for number, table in enumerate(models))
    _refuse_duplicates(file, entries)
    return entries


def _refuse_duplicates(file: Path, entries: tuple[ModelEntry, ...]) -> None:
    owner: dict[str, str] = {}  # lower-case name or alias -> name of its entry
    for entry in entries:
        for name in (entry.name, *entry.aliases):
            if name.lower() in owner:
                other = owner[name.lower()]
                raise InvalidCatalogue(f'{file}: model "{entry.name}": {name!r} already names "{other}"')
            owner[name.lower()] = entry.name


def _entry(table: Table, number: int) -> ModelEntry:
    name = table.require_text("name", _MODEL_NAME, "a name of letters, digits, '.', '-' and '_'")
    table.where = f'model "{name}":'
    entry = ModelEntry(
        name=name,
        aliases=table.texts("aliases"),
        architecture=table.require_text("architecture"),
        licence=table.require_text("licence"),
        capabilities=_capabilities(table),
        context_length=table.require_integer("context_length"),
        sampling=_sampling(table.table("sampling")),
        backends=_backends(table, number),
        origin=table.file,
        terms=_terms(table.table("terms")),
        serving=_serving(table.table("serving")),
    )
    table.close()
    return entry


def _capabilities(table: Table) -> frozenset[Capability]:
    names = table.texts("capabilities")
    known = {capability.value: capability for capability in Capability}
    for name in names:
        if name not in known:
            raise table.error("capabilities", f"{name!r} is none of {', '.join(known)}")
    if not names:
        raise table.error("capabilities", "is missing or empty")
    return frozenset(known[name] for name in names)


def _sampling(table: Table | None) -> SamplingDefaults:
    if table is None:
        return SamplingDefaults()
    sampling = SamplingDefaults(
        temperature=table.number("temperature", lambda value: value >= 0, "a number of at least 0"),
        top_k=table.integer("top_k"),
        top_p=table.number("top_p", lambda value: 0 < value <= 1, "a number over 0 and at most 1"),
        min_p=table.number("min_p", lambda value: 0 <= value <= 1, "a number from 0 to 1"),
        repetition_penalty=table.number("repetition_penalty", lambda value: value > 0, "a number over 0"),
    )
    table.close()
    return sampling


def _terms(table: Table | None) -> Terms | None:
    if table is None:
        return None
    name, title, url = (
        table.require_text("name", NAME),
        table.require_text("title"),
        table.require_text("url"),
    )
    file = table.file.parent / table.require_text("file")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise table.error("file", f"can't be read: {error}") from error
    table.close()
    return Terms(name, title, url, text)


def _serving(table: Table | None) -> ServingWishes:
    if table is None:
        return ServingWishes()
    serving = ServingWishes(
        pinned=table.flag("pinned"),
        keep_alive=table.number("keep_alive", lambda value: value >= 0, "a number of at least 0"),
        threads=table.integer("threads"),
    )
    table.close()
    return serving


def _backends(table: Table, number: int) -> tuple[BackendEntry, ...]:
    present = [(backend, table.table(backend)) for backend in BACKENDS]
    backends = tuple(_backend(backend, section) for backend, section in present if section is not None)
    if not backends:
        raise table.error(f"[{number}]", f"has no section for any backend ({', '.join(BACKENDS)})")
    return backends


def _backend(backend: str, table: Table) -> BackendEntry:
    section = table.require_table("profiles")
    profiles = tuple(_profile(section, name) for name in section.keys())  # noqa: SIM118 - no mapping
    if not profiles:
        raise table.error("profiles", "has no profile")
    default = table.text("default_profile")
    if default is None and len(profiles) == 1:
        default = profiles[0].name
    names = [profile.name for profile in profiles]
    if default not in names:
        raise table.error("default_profile", f"must be one of {', '.join(names)}, is {default!r}")
    entry = BackendEntry(
        backend=backend,
        artefact=read_artefact(table.require_table("artefact")),
        profiles=profiles,
        default_profile=default,
    )
    table.close()
    return entry


def _profile(section: Table, name: str) -> Profile:
    table = section.require_table(name)
    digest = table.text("digest", SHA256, "64 lower-case hex digits")
    certificate = table.table("certificate")
    if certificate is not None and digest is None:
        raise table.error("certificate", "needs the digest of the artefact that it was measured on")
    profile = Profile(name, digest, _certificate(certificate) if certificate is not None else None)
    table.close()
    return profile


def _certificate(table: Table) -> Certificate:
    certificate = Certificate(
        kl=table.require_number("kl", lambda value: value >= 0, "a number of at least 0"),
        perplexity=table.require_number("perplexity", lambda value: value >= 1, "a number of at least 1"),
        reference_perplexity=table.require_number(
            "reference_perplexity", lambda value: value >= 1, "a number of at least 1"
        ),
        top1_agreement=table.require_number("top1_agreement", lambda v: 0 <= v <= 1, "a number from 0 to 1"),
        tokens=table.require_integer("tokens"),
        text_sha256=table.require_text("text_sha256", SHA256, "64 lower-case hex digits"),
    )
    table.close()
    return certificate
