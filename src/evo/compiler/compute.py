"""Training compute by the plan: what a step costs, and how many steps a budget is. Torch-free."""

from __future__ import annotations

from evo.compiler.resolve import resolve
from evo.dsl.budget import BudgetSpec, FlopsBudget
from evo.dsl.document import Document
from evo.dsl.tree import replaced
from evo.optimizers.spec import OptimizerSpec


def step_tokens(document: Document) -> int:
    """Tokens that an optimizer step reads."""
    return document.train.batch * document.context


def step_flops(document: Document) -> float:
    """Training FLOPs of an optimizer step by the plan, at the context that is trained on: of its passes, and of the
    optimizer's matrix products."""
    organism = document.organism
    if document.context != organism.context:
        organism = replaced(organism, {("context",): document.context})
    plan, optimizer = resolve(organism), document.train.optimizer
    assert isinstance(optimizer, OptimizerSpec)
    return plan.training_flops_per_token * step_tokens(document) + optimizer.step_flops(plan.trained)


def budget_of(document: Document) -> BudgetSpec:
    """What a document is trained for: its budget, or the FLOPs that its steps cost."""
    return document.train.budget or FlopsBudget(flops=document.train.steps * step_flops(document))


def steps_of(document: Document) -> int:
    """The optimizer steps that a document is trained for, one at least."""
    budget = document.train.budget
    return document.train.steps if budget is None else whole_steps(budget, document)


def whole_steps(budget: BudgetSpec, document: Document, share: float = 1.0) -> int:
    """The number of a document's steps that comes closest to a share of a budget, one at least."""
    return max(1, round(share * budget.amount / used(budget, document, 1)))


def used(budget: BudgetSpec, document: Document, steps: int) -> float:
    """What some of a document's steps use of a budget, in its unit."""
    return steps * budget.of_step(step_flops(document), step_tokens(document))
