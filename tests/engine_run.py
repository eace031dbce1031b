"""An engine that runs in the caller's thread until all it was given has ended, and all that it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from tests.fake_backend import FakeBackend, byte_tokenizer, fake_description
from workers.runtime.engine.backend import Backend, StepResult
from workers.runtime.engine.intake import Arrived, Closed, Encoded, Unencodable
from workers.runtime.engine.loop import Engine
from workers.runtime.engine.memory import engine_limits
from workers.runtime.engine.messages import Cancel, EngineConfig, Refused, Stepped
from workers.runtime.engine.model_text import ModelText
from workers.runtime.engine.plan import StepPlan
from workers.runtime.engine.scheduler import Limits
from workers.runtime.generation import Generation, Output, Priority, Prompt, Stopping
from workers.runtime.sampling import SamplingParams

TOKENIZER = byte_tokenizer()
GREEDY = SamplingParams(temperature=0)


@dataclass(frozen=True)
class Tries:
    """Has as many guesses tried as there are, whether they pay or not."""

    most_drafts: int = 4

    def most(self, rows):
        return self.most_drafts

    def choose(self, found):
        return max(found.values())

    def record(self, tried, seconds):
        pass


@dataclass
class Recorder:
    """A real backend that keeps the plans it is given."""

    backend: Backend
    before_step: Callable[[StepPlan], None] = lambda _: None
    plans: list[StepPlan] = field(default_factory=list)

    @property
    def max_length(self):
        return self.backend.max_length

    @property
    def most_guessing(self):
        return self.backend.most_guessing

    @property
    def stages(self):
        return self.backend.stages

    @property
    def eyes(self):
        return self.backend.eyes

    def forward(self, plan: StepPlan) -> StepResult:
        if plan.chunks or plan.rows or plan.staged:
            self.before_step(plan)
        self.plans.append(plan)
        return self.backend.forward(plan)

    def trim(self) -> None:
        self.backend.trim()


def ids_of(text):
    return tuple(TOKENIZER.encode(text))


def request(number, prompt="Hi", *, sampling=GREEDY, priority=Priority.NORMAL, arrived_at=0.0, **stopping):
    told = {name: stopping.pop(name) for name in ("choices", "logprobs", "echo") if name in stopping}
    output = Output(**told)
    generation = Generation(Prompt(prompt), sampling, Stopping(**stopping), priority, output=output)
    return Encoded(number, generation, ids_of(prompt), arrived_at)


@dataclass
class Run:
    """An engine, on a fake backend or a real one, and all that it says."""

    backend: FakeBackend | Recorder
    config: EngineConfig = field(
        default_factory=lambda: EngineConfig(Path(), slots=4, prefill_chunk=8, shared_prefill_chunk=4)
    )
    at_step: dict[int, list] = field(default_factory=dict)
    """Step, from 1 -> what comes in while it is running."""
    sent: list = field(default_factory=list)
    limits: Limits | None = None
    text: ModelText = field(default_factory=lambda: ModelText(TOKENIZER, fake_description()))

    def __post_init__(self):
        self.inbox = SimpleQueue()
        self.open = set()  # requests that have not ended
        self.steps = 0
        self.backend.before_step = self.before_step
        self.engine = Engine(
            self.backend,
            self.text,
            self.config,
            self.limits or engine_limits(self.config, self.text.description, self.backend.max_length),
            inbox=self.inbox,
            send=self.take,
            clock=self.clock,
        )

    def clock(self):
        """Stands at the number of steps begun."""
        return float(self.steps)

    def before_step(self, plan):
        self.steps += 1
        self.put(*self.at_step.pop(self.steps, ()))

    def put(self, *items):
        self.open |= {item.id for item in items if isinstance(item, Encoded | Unencodable)}
        for item in items:
            if isinstance(item, Encoded | Unencodable):
                self.inbox.put(Arrived(item.id))
            self.inbox.put(item)
        for item in items:
            if isinstance(item, Cancel):
                self.ended(item.id)

    def take(self, message):
        self.sent.append(message)
        if isinstance(message, Refused):
            self.ended(message.id)
        if isinstance(message, Stepped):
            for piece in message.pieces:
                if piece.finish is not None and not self.engine._choices.get(piece.id):
                    self.ended(piece.id)

    def ended(self, number):
        self.open.discard(number)
        if not self.open and not self.at_step:
            self.inbox.put(Closed())

    def __call__(self, *items):
        """Runs until every request has ended."""
        self.put(*items)
        self.engine.run()
        return self

    def kinds(self, number):
        return [type(message).__name__ for message in self.sent if getattr(message, "id", None) == number]

    def pieces(self, number, choice=0):
        steps = [message for message in self.sent if isinstance(message, Stepped)]
        return [
            piece for step in steps for piece in step.pieces if (piece.id, piece.choice) == (number, choice)
        ]

    def text_of(self, number, choice=0):
        return "".join(piece.text for piece in self.pieces(number, choice))

    def tokens(self, number, choice=0):
        return [token for piece in self.pieces(number, choice) for token in piece.token_ids]

    def finish(self, number):
        return self.pieces(number)[-1].finish

    def loads(self):
        return [(m.load.busy, m.load.queued) for m in self.sent if isinstance(m, Stepped)]

    def refusal(self, number):
        (error,) = [m.error for m in self.sent if isinstance(m, Refused) and m.id == number]
        return error
