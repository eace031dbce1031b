"""The public list of models: what the connected workers advertise, merged by name."""

from __future__ import annotations

from collections.abc import Iterable

from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2


def merged(states: Iterable[worker_pb2.WatchResponse]) -> list[models_pb2.Model]:
    """One entry a model with all its deployments, sorted by name.

    What workers say differently of one model is taken from the first that says something.
    """
    models: dict[str, models_pb2.Model] = {}  # case-folded name -> model
    for state in states:
        for advertised in state.models:
            key = advertised.name.casefold()
            model = _alone(advertised)
            model.MergeFrom(models.get(key, models_pb2.Model()))  # which overwrites what both have set
            model.aliases.extend(alias for alias in advertised.aliases if alias not in model.aliases)
            model.deployments.extend(_deployments(advertised, state))
            models[key] = model
    return [models[name] for name in sorted(models)]


def _alone(advertised: models_pb2.Model) -> models_pb2.Model:
    """The model without its lists."""
    model = models_pb2.Model()
    model.CopyFrom(advertised)
    model.ClearField("aliases")
    model.ClearField("deployments")
    return model


def _deployments(
    advertised: models_pb2.Model, state: worker_pb2.WatchResponse
) -> Iterable[models_pb2.ModelDeployment]:
    for deployment in advertised.deployments:
        told = models_pb2.ModelDeployment()
        told.CopyFrom(deployment)
        told.worker = deployment.worker or state.worker
        told.backend = deployment.backend or state.backend
        yield told
