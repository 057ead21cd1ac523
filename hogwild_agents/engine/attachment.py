"""Attachment: how a model on loan comes to have the engine's attention."""

from __future__ import annotations

from hogwild_agents.engine.adapter import Adapter
from hogwild_agents.engine.attention import NAME, SURVEY, register
from hogwild_agents.engine.loan import Loan
from hogwild_agents.engine.refusals import refusal, refusing
from hogwild_agents.engine.survey import survey
from hogwild_agents.errors import LentModelError


def attach(loan: Loan, length: int | None) -> Adapter:
    """Find out how a model's layers attend, and leave it with the engine's attention.

    Args:
        loan: the model.
        length: of the longest view, in tokens; None without a limit.

    Raises:
        UnsupportedModelError: its logits would not be computed exactly.
    """
    register()
    with refusing(loan.model):
        loan.attach(SURVEY)
    try:
        adapter = _survey(loan, length)
    except LentModelError:  # its attention was not given the plan
        loan.bridge()
        try:
            adapter = _survey(loan, length)
        except LentModelError as error:
            raise refusal(
                loan.model, "its attention takes no extra arguments, so no plan reaches it"
            ) from error
    loan.attach(NAME)
    return adapter


def _survey(loan: Loan, length: int | None) -> Adapter:
    with refusing(loan.model):
        return survey(
            loan.model,
            length,
            loan.device,
            lambda ids, positions, plan: loan.forward(ids, positions, plan, 1),
        )
