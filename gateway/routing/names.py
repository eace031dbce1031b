"""Which model a request means: names, aliases, precision suffixes and the default. Pure, like the router."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace

from diplex.errors import BackendNotRunning, DiplexError, InvalidRequest, ModelNotFound, Unavailable
from gateway.fleet.facts import Backend, Deployment, Fleet, Precision, State, Unserved, Wanted

_HUB = "hf:"
"""How names of hub repositories begin."""
_MOST_NAMES = 20
"""Known names that an error lists."""


def resolve(wanted: Wanted, fleet: Fleet, default_model: str) -> Wanted:
    """The same wishes with the model's canonical name, and its suffix turned into a precision.

    Raises:
        InvalidRequest: No model is named and there is no default; or suffix and precision contradict.
        ModelNotFound: No worker knows the name.
        BackendNotRunning: Workers know it, and none is of a backend that has it.
        Unavailable: No model is named and no worker advertises one yet.
    """
    known = known_names(deployment for worker in fleet.workers for deployment in worker.deployments)
    asked = wanted.model or _default(fleet, default_model)
    if canonical := known.get(asked.casefold()):
        return replace(wanted, model=canonical)
    head, _, suffix = asked.rpartition("/")
    if canonical := known.get(head.casefold()):
        return replace(wanted, model=canonical, precision=_precision(suffix, wanted.precision))
    raise _unserved(asked, fleet) or ModelNotFound(_not_found(asked, known), metadata={"model": asked})


def known_names(deployments: Iterable[Deployment]) -> dict[str, str]:
    """Case-folded name or alias -> canonical name; a name goes before another model's alias."""
    names: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for deployment in deployments:
        canonical = names.setdefault(deployment.model.casefold(), deployment.model)
        for alias in deployment.aliases:
            aliases.setdefault(alias.casefold(), canonical)
    return aliases | names


def only_model(fleet: Fleet) -> str | None:
    """The single model in use on the connected workers, else the single one they know; else ``None``."""
    deployments = [deployment for worker in fleet.connected for deployment in worker.deployments]
    in_use = [deployment for deployment in deployments if deployment.state is not State.UNLOADED]
    names = {deployment.model.casefold(): deployment.model for deployment in in_use or deployments}
    return next(iter(names.values())) if len(names) == 1 else None


def _default(fleet: Fleet, default_model: str) -> str:
    if name := default_model or only_model(fleet):
        return name
    names = {deployment.model for worker in fleet.connected for deployment in worker.deployments}
    if not names:
        raise Unavailable("the connected workers advertise no model yet", retry_after=1.0)
    raise InvalidRequest.of_field("model", f"is empty and there is no default model; {_listed(names)}")


def _precision(suffix: str, field: Precision | None) -> Precision:
    try:
        precision = Precision(suffix.lower())
    except ValueError:
        allowed = ", ".join(Precision)
        raise InvalidRequest.of_field(
            "model", f"{suffix!r} behind the slash is no precision, one of {allowed} is meant"
        ) from None
    if field not in (None, precision):
        raise InvalidRequest.of_field("precision", f"is {field}, and the model's name asks for {precision}")
    return precision


def how_to_start(backend: Backend) -> str:
    """What an operator does who has no worker of that backend."""
    profile = " --profile torch" if backend is Backend.TORCH else ""
    option = " --torch" if backend is Backend.TORCH else ""
    return f"`diplex up{option}` or `docker compose{profile} up -d` starts one"


def _unserved(asked: str, fleet: Fleet) -> DiplexError | None:
    """The refusal of a model that connected workers know and can't serve, which says what could."""
    names = {asked.casefold(), asked.rpartition("/")[0].casefold()}
    for it in (unserved for worker in fleet.connected for unserved in worker.unserved):
        if names.isdisjoint(name.casefold() for name in (it.model, *it.aliases)):
            continue
        metadata = {"model": it.model, "backends": ",".join(it.backends)}
        return BackendNotRunning(_refusal(it), metadata=metadata)
    return None


def _refusal(unserved: Unserved) -> str:
    told = f"{unserved.model} can't be served now: {unserved.reason}"
    if not unserved.backends:
        return told
    backend = unserved.backends[0]
    return f"{told}. The gateway knows no {backend} worker; {how_to_start(backend)}"


def _not_found(asked: str, known: dict[str, str]) -> str:
    close = [known[name] for name in difflib.get_close_matches(asked.casefold(), known)]
    if asked.casefold().startswith(_HUB):
        return (
            f"no worker knows a model {asked!r}; requests don't make a server download: "
            f"run `diplex pull {asked}` where the worker runs"
        )
    hint = f"; did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
    return f"no worker knows a model {asked!r}{hint or '; ' + _listed(known.values())}"


def _listed(names: Iterable[str]) -> str:
    unique = sorted(set(names), key=str.casefold)
    more = f" and {len(unique) - _MOST_NAMES} more" if len(unique) > _MOST_NAMES else ""
    return f"known: {', '.join(unique[:_MOST_NAMES]) or 'none'}{more}"
