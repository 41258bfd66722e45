# SPDX-License-Identifier: Apache-2.0
"""One call of CP-SAT: one worker, limits of time and work, and a watch that can stop it.

One worker repeats itself exactly, and on the flow model it is not slower to a proof than several
(doc/source/contributor/results.rst has the figures).
"""

from collections.abc import Callable
import dataclasses
import math
import threading

from ortools.sat.python import cp_model

from nova_rebalancer.plan import base

POLL_S = 0.05
"""How often the watch is asked whether to stop."""


@dataclasses.dataclass(slots=True)
class Meter:
    """What the calls of one planner share: limits, and what is spent of them.

    ``work`` is in CP-SAT's deterministic time.
    """

    budget: base.Budget
    seed: int
    watch: base.Watch
    work: float = 0.0

    def work_left(self) -> float:
        """Solver work that is left, infinite when it is not limited."""
        return math.inf if self.budget.work is None else max(0.0, self.budget.work - self.work)

    def spent(self) -> bool:
        """Whether time or work is used up, or the watch wants an end."""
        return self.watch.stopped() or self.work_left() <= 0 or self.budget.over()


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended; ``solver`` holds the values if ``found``.

    ``bound`` is infinite, on the side that claims nothing, when the call ended without one.
    """

    solver: cp_model.CpSolver
    found: bool
    proven: bool
    bound: float


def solve(
    model: cp_model.CpModel,
    meter: Meter,
    work: float = math.inf,
    tell: Callable[[float], None] | None = None,
    tell_bound: Callable[[float], None] | None = None,
) -> Answer:
    """Solve ``model`` within what ``meter`` has left and at most ``work``.

    Parameters
    ----------
    tell, tell_bound
        Hear the objective of each better solution, and each better bound.
    """
    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.num_workers = 1
    parameters.linearization_level = 2
    parameters.random_seed = meter.seed
    parameters.catch_sigint_signal = False
    limit = min(work, meter.work_left())
    if limit < math.inf:
        parameters.max_deterministic_time = limit
    left_s = meter.budget.left_s()
    if left_s < math.inf:
        parameters.max_time_in_seconds = left_s
    heard: list[float] = []

    def hear(bound: float) -> None:
        heard.append(bound)
        if tell_bound is not None:
            tell_bound(bound)

    solver.best_bound_callback = hear
    status = _run(solver, model, _Tell(tell) if tell is not None else None, meter.watch)
    meter.work += solver.response_proto.deterministic_time
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    bound = solver.best_objective_bound
    if not found:
        # CP-SAT answers 0 when it was stopped before it had a bound, or refuses a model of numbers
        # too large for it.
        maximized = model.proto.objective.scaling_factor < 0
        bound = heard[-1] if heard else math.inf if maximized else -math.inf
    return Answer(solver, found, status == cp_model.OPTIMAL, bound)


class _Tell(cp_model.CpSolverSolutionCallback):
    """Passes on each better solution's objective."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        super().__init__()
        self._tell = tell

    def on_solution_callback(self) -> None:
        self._tell(self.objective_value)


def _run(
    solver: cp_model.CpSolver, model: cp_model.CpModel, tell: _Tell | None, watch: base.Watch
) -> int:
    """Run the solver beside this thread, which stays free to hear signals and to stop it."""
    answer: list[int] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(int(solver.solve(model, tell)))
        except BaseException as error:  # raised again in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=work, name="cp-sat", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        if watch.stopped():
            solver.stop_search()
    if failure:
        raise failure[0]
    return answer[0]
