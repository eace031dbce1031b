"""A choice that another worker began: brought to where that one was lost, and gone on with from there."""

from __future__ import annotations

from diplex.errors import InvalidRequest
from workers.runtime.engine.answer import Answer, Clocked
from workers.runtime.engine.messages import Piece
from workers.runtime.engine.sequence import Sequence
from workers.runtime.generation import Prior


def caught_up(answer: Answer, sequence: Sequence, echo: str, max_length: int) -> Piece | None:
    """Gives an empty answer and its sequence what the caller has already of the choice, if anything.

    The tokens pass all that new ones would: penalties, stop strings, detokeniser, grammar, reader of calls.
    So these hold back what they held back where the choice was begun, and what comes next joins without a gap
    or a repeat.

    Args:
        answer: Changed.
        sequence: Changed; not in a scheduler yet.
        echo: The input's text, if the caller was told that.
        max_length: Tokens of a sequence, prompt and output.

    Returns:
        What the caller lacks of a choice that has ended with these tokens; ``None`` if it goes on.

    Raises:
        InvalidRequest: The tokens don't come to what the caller is said to have.
        DiplexError: The grammar doesn't allow them.
    """
    prior = _prior(answer)
    if prior is None:
        return None
    answer.start()
    answer.ahead = max(0, prior.characters - len(echo))
    end = _replayed(answer, sequence, prior, max_length)
    sequence.prior = prior.token_ids
    answer.clocked = Clocked(answer.request.arrived_at)
    return end


def _prior(answer: Answer) -> Prior | None:
    return next((it for it in answer.request.generation.prior if it.choice == answer.choice), None)


def _replayed(answer: Answer, sequence: Sequence, prior: Prior, max_length: int) -> Piece | None:
    for position, token in enumerate(prior.token_ids, 1):
        piece = answer.push(token, sequence.append(token, max_length))
        if piece.finish is not None:
            if position < len(prior.token_ids):
                raise _contradiction(
                    answer, f"it had ended after {position} of {len(prior.token_ids)} tokens"
                )
            return piece._replace(token_ids=(), logprobs=(), calls=())
        if piece.text:
            raise _contradiction(answer, "its tokens come to more text than the caller has")
    return None


def _contradiction(answer: Answer, text: str) -> InvalidRequest:
    return InvalidRequest.of_field("prior", f"choice {answer.choice} can't be gone on with here: {text}")
