"""What a Dockerfile says of the image that it makes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from tests.helm.chart import ROOT

FILES = {
    "gateway": ROOT / "gateway/Dockerfile",
    "onnx-worker": ROOT / "workers/onnx_worker/Dockerfile",
    "torch-worker": ROOT / "workers/torch_worker/Dockerfile",
}


@dataclass
class Image:
    """What counts when a container is started without anything else being said."""

    entrypoint: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    ports: set[int] = field(default_factory=set)
    user: str = ""
    volumes: set[str] = field(default_factory=set)

    def take(self, word: str, rest: str) -> None:
        match word:
            case "ENTRYPOINT":
                self.entrypoint = json.loads(rest)
            case "ENV":
                self.variables |= dict(re.findall(r"(\w+)=(\S+)", rest))
            case "EXPOSE":
                self.ports |= set(map(int, rest.split()))
            case "USER":
                self.user = rest
            case "VOLUME":
                self.volumes |= set(rest.split())


def image_of(component: str) -> Image:
    """The image of a component: its last stage, and those that it stands on."""
    text = re.sub(r"^#.*\n", "", FILES[component].read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    stages: dict[str, list[tuple[str, str]]] = {}  # name -> its instructions, the stage below it first
    name = ""
    for line in filter(None, map(str.strip, lines)):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = list(stages.get(base, ()))
        elif name:
            stages[name].append((word, rest.strip()))
    image = Image()
    for word, rest in stages[name]:
        image.take(word, rest)
    return image
