"""Whatever may come in any order: arrivals, cancellations and steps, under little memory, with guesses.

The machine keeps its own record of what every slot really holds, and chooses each token as a function of that
alone. So a sequence gets the text that it would get by itself only if every plan was right.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from workers.runtime.engine.plan import Copy, Release, StepPlan, Swap
from workers.runtime.engine.prompt_lookup import PromptLookup
from workers.runtime.engine.scheduler import COPIED_PER_COMPUTED, Limits, Scheduler
from workers.runtime.engine.sequence import Sequence

END = 3
LENGTH = 48
GARBAGE = -1

# Few tokens, so that prompts begin alike and texts repeat themselves.
PROMPTS = st.builds(
    lambda head, tail: (*range(10, 10 + head), *tail),
    st.integers(0, 30),
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
)


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
        more=st.integers(1, 3),
        kv_tokens=st.integers(LENGTH, 4 * LENGTH),
        cached_tokens=st.sampled_from([0, 40, 1000]),
    )
    def begin(self, slots, more, kv_tokens, cached_tokens):
        self.limits = Limits(slots, slots + more, LENGTH, kv_tokens, cached_tokens)
        self.scheduler = Scheduler(self.limits)
        self.held = [[GARBAGE] * LENGTH for _ in range(self.limits.rows)]  # row -> tokens
        self.beside = []  # chunks that are being prefilled
        self.numbers = iter(range(10**6))
        self.prompts, self.most, self.texts = {}, {}, {}  # id -> of sequences that have not ended

    @rule(
        prompt=PROMPTS,
        most=st.integers(1, 24),
        priority=st.integers(0, 2),
        client=st.sampled_from("ab"),
        due=st.integers(0, 3),
        prior=st.integers(0, 2),
    )
    def add(self, prompt, most, *, priority, client, due, prior):
        number = next(self.numbers)
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

    @rule(
        data=st.data(),
        budget=st.integers(1, 9),
        drafts=st.sampled_from([0, 2, 4]),
        beside=st.sampled_from([0, 6, 12]),
        ends=st.integers(0, 2),
    )
    def step(self, data, budget, drafts, beside, ends):
        plan = self.scheduler.schedule(budget, drafts, beside=beside)
        assert sum(len(chunk.tokens) for chunk in plan.beside) <= beside
        done, tokens = self.carry_out(plan, budget, drafts, ends)
        if done.sampled and data.draw(st.integers(0, 4), label="remove one before the commit") == 4:
            number = data.draw(st.sampled_from(done.sampled))
            if number in self.texts:
                if data.draw(st.booleans()):
                    self.scheduler.discard(number)
                else:
                    assert self.scheduler.remove(number)
                self.forget(number)
        self.commit(done, tokens)

    @rule(budget=st.integers(1, 9))
    def a_step_is_planned_within_the_memory(self, budget):
        plan = self.scheduler.schedule(budget)
        claimed = sum(len(slot.tokens) for slot in self.scheduler._table.slots if not slot.free)
        # What is being prefilled beside decode runs can't be preempted.
        if not self.beside:
            assert claimed + self.scheduler.cached <= self.limits.kv_tokens
        # A plan that was never carried out would leave the record behind.
        self.commit(*self.carry_out(plan, budget, 0, 1))

    def commit(self, done, tokens):
        for one in self.scheduler.commit(done, tokens):
            self.texts[one.sequence].append(one.token)
            text, prompt = self.texts[one.sequence], self.prompts[one.sequence]
            expected = reference(prompt, self.most[one.sequence])
            assert text == expected[: len(text)]
            assert (one.finish is not None) == (text == expected)
            assert one.cached <= len(prompt)
            if one.finish is not None:
                self.forget(one.sequence)

    def forget(self, number):
        del self.prompts[number], self.most[number], self.texts[number]

    def carry_out(self, plan, budget, drafts, ends):
        """What a backend would do, in its order: what is done, and the tokens that it would choose.

        Of the chunks beside, the first ``ends`` come to their end.
        """
        copied = 0
        under_way = {chunk.slot for chunk in self.beside}
        for change in plan.changes:
            match change:
                case Swap(a, b):
                    assert a != b
                    assert not {a, b} & under_way
                    self.held[a], self.held[b] = self.held[b], self.held[a]
                case Copy(source, target, start, end):
                    assert target not in under_way
                    self.held[target][start:end] = self.held[source][start:end]
                    copied += end - start
                case Release(slot, keep):
                    assert slot not in under_way
                    self.held[slot][keep:] = [GARBAGE] * (LENGTH - keep)
        assert copied <= budget * COPIED_PER_COMPUTED
        assert sum(len(chunk.tokens) for chunk in plan.chunks) <= budget
        self.beside += plan.beside
        assert plan or self.beside or not self.texts
        if not (plan.rows or plan.chunks):
            ends = max(ends, 1)
        ended, self.beside = self.beside[:ends], self.beside[ends:]
        done = StepPlan(chunks=(*ended, *plan.chunks), rows=plan.rows)
        busy = [*self.beside, *done.chunks]
        assert len({chunk.slot for chunk in busy}) == len(busy)
        assert all(chunk.slot >= len(plan.rows) for chunk in busy)
        sequences = [work.sequence for work in (*busy, *plan.rows)]
        assert len(sequences) == len(set(sequences))
        tokens = [token for chunk in done.chunks for token in self.prefill(chunk)]
        tokens += [token for slot, row in enumerate(plan.rows) for token in self.decode(slot, row, drafts)]
        return done, tokens

    def prefill(self, chunk):
        end = chunk.start + len(chunk.tokens)
        self.held[chunk.slot][chunk.start : end] = chunk.tokens
        if chunk.sequence not in self.texts:  # it left while its chunk was computed
            return [0] if chunk.last else []
        expected = [*self.prompts[chunk.sequence], *self.texts[chunk.sequence]]
        assert self.held[chunk.slot][:end] == expected[:end]
        assert chunk.last == (end == len(expected))
        return [next_token(expected)] if chunk.last else []

    def decode(self, slot, row, drafts):
        taken = [row.token, *row.drafts]
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

    def teardown(self):
        """Everything ends, and soon."""
        if not hasattr(self, "scheduler"):
            return
        left = sum(len(self.prompts[n]) + self.most[n] for n in self.texts)
        for _ in range(4 * left + 8):
            if not self.texts:
                break
            plan = self.scheduler.schedule(4, beside=4)
            self.commit(*self.carry_out(plan, 4, 0, 1))
        assert not self.texts


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
