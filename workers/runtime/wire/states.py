"""Models as watchers are told of them."""

from __future__ import annotations

from typing import Final

from diplex.v1 import generation_pb2 as public
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2
from workers.runtime.catalogue import Capability, ModelEntry
from workers.runtime.fidelity.certificate import Certificate
from workers.runtime.supervisor.model import ServedModel, State
from workers.runtime.supervisor.unloaded import UnloadedModel
from workers.runtime.wire.enums import BACKENDS, PRECISIONS
from workers.runtime.wire.events import digest

_STATES: Final = {
    State.LOADING: models_pb2.MODEL_STATE_LOADING,
    State.READY: models_pb2.MODEL_STATE_READY,
    State.RESTARTING: models_pb2.MODEL_STATE_RESTARTING,
    State.FAILED: models_pb2.MODEL_STATE_FAILED,
}


def model_state(model: ServedModel | UnloadedModel, worker: str, backend: str) -> models_pb2.Model:
    """A model with its one deployment, this worker's."""
    entry, length, description = model.entry, 0, None
    if isinstance(model, ServedModel):
        length, description = model.limits.max_length, model.description
        deployment = _deployment(model)
    else:
        deployment = _unloaded(model, backend)
    deployment.worker, deployment.backend = worker, BACKENDS[backend]
    deployment.precision = PRECISIONS.get(model.profile, public.PRECISION_UNSPECIFIED)
    return models_pb2.Model(
        name=entry.name,
        aliases=entry.aliases,
        architecture=entry.architecture,
        licence=entry.licence,
        capabilities=models_pb2.ModelCapabilities(
            chat=Capability.CHAT in entry.capabilities,
            images=Capability.IMAGES in entry.capabilities,
            tools=Capability.TOOLS in entry.capabilities,
            context_length=length or entry.context_length,
            vocabulary_size=description.vocab_size if description else 0,
        ),
        deployments=[deployment],
    )


def unserved(entry: ModelEntry, backend: str) -> worker_pb2.UnservedModel:
    """A model of the catalogue that a worker of this backend has no form of."""
    names = ", ".join(each.backend for each in entry.backends)
    refusals = "; ".join(f"{each.backend}: {each.refusal}" for each in entry.backends if each.refusal)
    reason = f"the {backend} worker has no form of it; the catalogue has it for {names}"
    return worker_pb2.UnservedModel(
        name=entry.name,
        aliases=entry.aliases,
        backends=[BACKENDS[each.backend] for each in entry.backends if not each.refusal],
        reason=f"{reason}, where it can't be served yet: {refusals}" if refusals else reason,
    )


def _why_not(model: UnloadedModel, backend: str) -> str:
    refusal = model.entry.backend(backend).refusal
    if refusal is not None:
        return f"can't be served: {refusal}"
    return f"the last time: {model.failure.message}" if model.failure else ""


def _unloaded(model: UnloadedModel, backend: str) -> models_pb2.ModelDeployment:
    artefact, predicted = model.artefact, model.predicted
    return models_pb2.ModelDeployment(
        state=models_pb2.MODEL_STATE_UNLOADED,
        digest=f"sha256:{artefact.digest}" if artefact else "",
        certificate=_certificate(artefact.certificate if artefact else None),
        predicted_bytes=predicted.loaded if predicted else 0,
        most_bytes=predicted.most if predicted else 0,
        pinned=model.entry.serving.pinned,
        detail=_why_not(model, backend),
    )


def _deployment(model: ServedModel) -> models_pb2.ModelDeployment:
    load = model.load
    return models_pb2.ModelDeployment(
        state=_STATES[model.state],
        digest=digest(model),
        resident_bytes=model.resident_bytes,
        slots=models_pb2.SlotUse(total=model.limits.slots, busy=load.busy, queued=load.queued),
        rates=models_pb2.Rates(
            prefill_tokens_per_second=load.prefill_rate, decode_tokens_per_second=load.decode_rate
        ),
        certificate=_certificate(model.artefact.certificate if model.artefact else None),
        detail=_detail(model),
        predicted_bytes=model.predicted.loaded if model.predicted else 0,
        loaded_bytes=model.loaded_bytes,
        most_bytes=model.tenancy.reserved,
        pinned=model.tenancy.terms.pinned,
    )


def _detail(model: ServedModel) -> str:
    if model.failure is not None:
        return model.failure.message
    if model.state is State.LOADING:
        progress = model.progress
        of = f" of {progress.total}" if progress.total else ""
        return f"{progress.phase.value} {progress.done}{of} {progress.detail}".rstrip()
    return ""


def _certificate(certificate: Certificate | None) -> models_pb2.Certificate | None:
    if certificate is None:
        return None
    return models_pb2.Certificate(
        kl=certificate.kl,
        perplexity=certificate.perplexity,
        reference_perplexity=certificate.reference_perplexity,
        top1_agreement=certificate.top1_agreement,
        tokens=certificate.tokens,
    )
