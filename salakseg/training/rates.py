"""What changes over a run, the learning rate first; pure functions of the iteration."""

from salakseg.training.options import Recipe

POLY_POWER = 0.9

WARM_UP = 0.05

# The teacher's memory: a tenth of the run, at most 1,000 iterations.
TEACHER_MEMORY, LONGEST_TEACHER_MEMORY = 0.1, 1000


def learning_rate_factor(iteration: int, num_steps: int) -> float:
    """Linear warm-up over the first 5 % of the run, then the poly schedule (1 − t)^0.9.

    `iteration` counts from 1; a pure function, so that nothing has to be saved.
    """
    warm_up = min(1.0, iteration / max(1.0, WARM_UP * num_steps))
    return warm_up * max(0.0, 1 - (iteration - 1) / num_steps) ** POLY_POWER


def self_training_ramp(
    iteration: int,
    num_steps: int,
    begins: float = Recipe.self_training_begins,
    full: float = Recipe.self_training_full,
) -> float:
    """Weight of self-training: 0 up to the part `begins` of the run, 1 from `full` on, linear."""
    done = iteration / num_steps
    return 1.0 if done >= full else max(0.0, (done - begins) / (full - begins))


def teacher_decay(iteration: int, num_steps: int) -> float:
    """Share of the teacher's weights that an iteration keeps; less at first, when G is random."""
    memory = min(LONGEST_TEACHER_MEMORY, max(1.0, TEACHER_MEMORY * num_steps))
    return min(1 - 1 / memory, iteration / (iteration + 9))
