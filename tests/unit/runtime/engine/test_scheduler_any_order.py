"""Whatever comes in any order: arrivals, cancellations and steps, with little memory, guesses and pictures.

The machine keeps its own record of what every slot really holds, and chooses each token as a function of that
alone. So a sequence gets the text that it would get by itself only if every plan was right.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.engine_run import Tries
from workers.runtime.engine.budget import TOGETHER, Allowance
from workers.runtime.engine.plan import Copy, Release, Swap
from workers.runtime.engine.prompt_lookup import PromptLookup
from workers.runtime.engine.scheduler import COPIED_PER_COMPUTED, Limits, Scheduler
from workers.runtime.engine.sequence import Sequence
from workers.runtime.vision import Gallery, Layout

END = 3
LENGTH = 48
GARBAGE = -1

# Few tokens, so that prompts begin alike and texts repeat themselves.
PROMPTS = st.builds(
    lambda head, tail: (*range(10, 10 + head), *tail),
    st.integers(0, 30),
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
)


PICTURES = {"a": (2,), "b": (3, 1), "c": (1, 1, 1)}  # rows of each tile


MOST_SHOWN = 8  # rows of two pictures, side by side


class NoTiles:
    """Those of a picture that nobody looks at: the scheduler doesn't."""

    nbytes = 0


WORTHS = st.sampled_from([None, 0.0, 10.0, 25.0])  # of a step; None: nobody waits for it


def next_token(held):
    """What the model says behind these tokens: repetitive, and now and then the end."""
    if len(held) % 11 == 7 and sum(held) % 3 == 0:
        return END
    return (held[-1] + len(held) // 6) % 3


def reference(prompt, most):
    """What a sequence gets when it is alone."""
    tokens = list(prompt)
    while len(tokens) < LENGTH and len(tokens) - len(prompt) < most:
        tokens.append(next_token(tokens))
        if tokens[-1] == END:
            break
    return tokens[len(prompt) :]


class AnyOrder(RuleBasedStateMachine):
    """One scheduler, and what it should know."""

    @initialize(
        slots=st.integers(1, 4),
        more=st.integers(0, 3),
        kv_tokens=st.integers(LENGTH, 4 * LENGTH),
        cached_tokens=st.sampled_from([0, 40, 1000]),
        stages=st.integers(1, 3),
        undivided=st.booleans(),
    )
    def begin(self, slots, more, kv_tokens, cached_tokens, stages, *, undivided):
        self.undivided = undivided
        self.limits = Limits(slots, slots + more, LENGTH, kv_tokens, cached_tokens, stages)
        self.flying = None  # the staged chunk that is not complete
        self.scheduler = Scheduler(self.limits)
        self.held = [[GARBAGE] * LENGTH for _ in range(self.limits.rows)]  # row -> tokens
        self.numbers = iter(range(10**6))
        self.prompts, self.most, self.texts = {}, {}, {}  # id -> of sequences that have not ended
        self.gallery = Gallery(budget=16, row_bytes=1)
        self.pinned = {}  # id -> pictures of the same
        self.features = set()  # ids of rows that were encoded and not forgotten

    @rule(
        prompt=PROMPTS,
        most=st.integers(1, 24),
        priority=st.integers(0, 2),
        client=st.sampled_from("ab"),
        due=st.integers(0, 3),
        prior=st.integers(0, 2),
        shown=st.lists(st.sampled_from(sorted(PICTURES)), max_size=2),
        behind=st.integers(0, 20),
    )
    def add(self, prompt, most, *, priority, client, due, prior, shown, behind):
        number = next(self.numbers)
        pictures = self.pinned[number] = tuple(
            self.gallery.pin(name.encode(), Layout("", PICTURES[name]), NoTiles) for name in shown
        )
        if len(prompt) < 30:
            names = [name for picture in pictures for name in picture.ids]
            prompt = (*prompt[:behind], *names, *prompt[behind:])
        prior = tuple(reference(prompt, most)[:prior])
        if END in prior or len(prior) >= most:
            prior = ()
        self.prompts[number], self.most[number], self.texts[number] = prompt, most, list(prior)
        self.scheduler.add(
            Sequence(
                number,
                prompt,
                most,
                frozenset({END}),
                priority=priority,
                client=client,
                due=due,
                prior=prior,
                lookup=PromptLookup() if number % 3 else None,
                pictures=pictures,
                undivided=self.undivided,
            )
        )

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def remove(self, data):
        number = data.draw(st.sampled_from(sorted(self.texts)))
        assert self.scheduler.remove(number)
        self.forget(number)

    @rule()
    def empty_the_cache(self):
        self.scheduler.forget()
        assert self.scheduler.cached == 0

    @rule()
    def forget_pictures(self):
        self.gallery.clear()

    @rule(
        data=st.data(),
        budget=st.integers(1, 9),
        worth=WORTHS,
        drafts=st.sampled_from([0, 2, 4]),
        encode=st.booleans(),
    )
    def step(self, data, budget, *, worth, drafts, encode):
        plan = self.scheduler.schedule(Allowance(budget, worth), Tries(drafts), encode=encode)
        assert encode or not (plan.encode and plan.rows)
        tokens = self.carry_out(plan, budget, drafts)
        if plan.sampled and data.draw(st.integers(0, 4), label="remove one before the commit") == 4:
            number = data.draw(st.sampled_from(plan.sampled))
            if data.draw(st.booleans()):
                self.scheduler.discard(number)
            else:
                assert self.scheduler.remove(number)
            self.forget(number)
        for one in self.scheduler.commit(plan, tokens):
            self.texts[one.sequence].append(one.token)
            text, expected = (
                self.texts[one.sequence],
                reference(self.prompts[one.sequence], self.most[one.sequence]),
            )
            assert text == expected[: len(text)]
            assert (one.finish is not None) == (text == expected)
            assert one.cached < len(self.prompts[one.sequence])
            if one.finish is not None:
                self.forget(one.sequence)

    def forget(self, number):
        self.gallery.unpin(self.pinned.pop(number))
        del self.prompts[number], self.most[number], self.texts[number]

    def carry_out(self, plan, budget, drafts):
        """What a backend would do, in its order; the tokens that it would choose."""
        for ids in self.gallery.take_forgotten():
            self.features.difference_update(ids)
        if plan.encode:
            assert not self.features.intersection(plan.encode.ids)
            self.features.update(plan.encode.ids)
            self.gallery.advance(plan.encode.picture)
        assert (
            bool(plan.chunks or plan.rows or plan.staged or plan.encode)
            or not self.texts
            or any(isinstance(change, Copy) for change in plan.changes)
        )
        copied = 0
        for change in plan.changes:
            match change:
                case Swap(a, b):
                    assert a != b
                    self.held[a], self.held[b] = self.held[b], self.held[a]
                case Copy(source, target, start, end):
                    self.held[target][start:end] = self.held[source][start:end]
                    copied += end - start
                case Release(slot, keep):
                    self.held[slot][keep:] = [GARBAGE] * (LENGTH - keep)
        assert copied <= budget * COPIED_PER_COMPUTED
        shown = MOST_SHOWN if self.undivided else 0
        assert all(len(chunk.tokens) <= budget + shown for chunk in plan.chunks)
        assert sum(len(chunk.tokens) for chunk in plan.chunks) <= TOGETHER * budget + shown
        if plan.staged:
            self.fly(plan.staged)
        tokens = [token for chunk in plan.complete for token in self.prefill(chunk)]
        busy = list(plan.sequences)
        assert len(busy) == len(set(busy))
        assert not {chunk.slot for chunk in plan.complete} & set(range(len(plan.rows)))
        assert len(busy) - bool(plan.encode) <= self.limits.slots
        return tokens + [
            token for slot, row in enumerate(plan.rows) for token in self.decode(slot, row, drafts)
        ]

    def fly(self, staged):
        """Stages come one after the other, in one place, and leave nothing of use before the last."""
        chunk = staged.chunk
        if staged.first:
            assert (self.flying.chunk, self.flying.first + self.flying.count) == (chunk, staged.first)
        assert staged.count > 0
        assert staged.of == self.limits.stages
        self.held[chunk.slot][chunk.start :] = [GARBAGE] * (LENGTH - chunk.start)
        self.flying = staged

    def prefill(self, chunk):
        end = chunk.start + len(chunk.tokens)
        assert self.features.issuperset(token for token in chunk.tokens if token < 0)
        self.held[chunk.slot][chunk.start : end] = chunk.tokens
        expected = [*self.prompts[chunk.sequence], *self.texts[chunk.sequence]]
        assert self.held[chunk.slot][:end] == expected[:end]
        assert chunk.last == (end == len(expected))
        if self.undivided and not chunk.last:
            assert expected[end - 1] >= 0 or expected[end] >= 0
        return [next_token(expected)] if chunk.last else []

    def decode(self, slot, row, drafts):
        taken = [row.token, *row.drafts]
        assert min(taken) >= 0
        assert len(row.drafts) <= drafts
        assert row.past + len(taken) <= LENGTH
        self.held[slot][row.past : row.past + len(taken)] = taken
        expected = [*self.prompts[row.sequence], *self.texts[row.sequence]]
        assert self.held[slot][: row.past + 1] == expected
        return [next_token(self.held[slot][: row.past + i + 1]) for i in range(len(taken))]

    @invariant()
    def what_is_held_fits(self):
        if not hasattr(self, "scheduler"):
            return
        running = self.scheduler._running.values()
        assert len(running) <= self.limits.slots
        assert self.scheduler.cached <= self.limits.cached_tokens
        rows = [sequence.slot.row for sequence in running]
        assert len(set(rows)) == len(rows)
        assert self.scheduler.busy + self.scheduler.queued == len(self.texts)
        assert all(picture.complete for sequence in running for picture in sequence.pictures)

    @rule(budget=st.integers(1, 9), worth=WORTHS)
    def a_step_is_planned_within_the_memory(self, budget, worth):
        plan = self.scheduler.schedule(Allowance(budget, worth))
        claimed = sum(len(sequence.tokens) for sequence in self.scheduler._running.values())
        assert claimed + self.scheduler.cached <= self.limits.kv_tokens
        # A plan that was never carried out would leave the record behind: carry it out.
        self.scheduler.commit(plan, self.rest(plan, budget))

    def rest(self, plan, budget):
        tokens = self.carry_out(plan, budget, 0)
        for number, token in zip(plan.sampled, tokens, strict=True):
            self.texts[number].append(token)
            expected = reference(self.prompts[number], self.most[number])
            assert self.texts[number] == expected[: len(self.texts[number])]
            if self.texts[number] == expected:
                self.forget(number)
        return tokens

    def teardown(self):
        """Everything ends, and soon."""
        if not hasattr(self, "scheduler"):
            return
        left = sum(len(self.prompts[n]) + self.most[n] + 3 * len(self.pinned[n]) for n in self.texts)
        for number in range(4 * self.limits.stages * left + 8):
            if not self.texts:
                break
            plan = self.scheduler.schedule(Allowance(4, (None, 0.0, 25.0)[number % 3]))
            self.scheduler.commit(plan, self.rest(plan, 4))
        assert not self.texts


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
