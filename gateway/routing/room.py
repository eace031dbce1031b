"""Whether a model that isn't loaded fits a worker's memory budget beside what is there."""

from __future__ import annotations

from enum import IntEnum

from gateway.fleet.facts import Deployment, State, Worker


class Room(IntEnum):
    """What has to happen before a worker can load a model, the least first."""

    ENOUGH = 0
    AFTER_IDLE = 1
    AFTER_BUSY = 2
    NEVER = 3

    @property
    def told(self) -> str:
        """The same for people."""
        return {
            Room.ENOUGH: "fits beside what is loaded",
            Room.AFTER_IDLE: "fits once idle models go",
            Room.AFTER_BUSY: "fits once busy models are idle and go",
            Room.NEVER: "does not fit the memory budget beside what stays",
        }[self]


def of(worker: Worker, deployment: Deployment) -> Room:
    """What a worker would have to do for a deployment, by its own budget and predictions.

    The worker has the last word, since it also counts itself. Without a budget, or where nothing is
    predicted, there is room.
    """
    if not worker.memory_budget or not deployment.most_bytes:
        return Room.ENOUGH
    there = [it for it in worker.deployments if it.state not in (State.UNLOADED, State.FAILED)]
    left = worker.memory_budget - deployment.most_bytes
    pinned = sum(it.most_bytes for it in there if it.pinned)
    busy = sum(it.most_bytes for it in there if not it.pinned and (it.busy or it.queued))
    if sum(it.most_bytes for it in there) <= left:
        return Room.ENOUGH
    if pinned + busy <= left:
        return Room.AFTER_IDLE
    return Room.AFTER_BUSY if pinned <= left else Room.NEVER
