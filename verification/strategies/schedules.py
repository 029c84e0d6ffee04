"""Strategies of ratios and schedules."""

from fractions import Fraction

from hypothesis import strategies as st

from pins.pruning.schedules import CubicSchedule, OneShotSchedule

_RATIOS = (st.floats(0.0, 1.0), st.fractions(0, 1, max_denominator=1000))


def sparsities() -> st.SearchStrategy[float | Fraction]:
    """Ratios in [0, 1] as floats and as fractions; shrinks to 0.0."""
    return st.one_of(*_RATIOS)


def schedules(*, max_steps: int = 60) -> st.SearchStrategy[CubicSchedule | OneShotSchedule]:
    """Valid schedules of both kinds that end within `max_steps` steps.

    Shrinks to a one-shot schedule at step 1 that prunes nothing.
    """
    one_shot = st.builds(OneShotSchedule, final_sparsity=sparsities(), at=st.integers(1, max_steps))
    return st.one_of(one_shot, cubic_schedules(max_steps=max_steps))


@st.composite
def cubic_schedules(draw: st.DrawFn, *, max_steps: int = 60) -> CubicSchedule:
    """Valid cubic schedules of at most `max_steps` steps; shrinks to one step that prunes nothing.

    Both sparsities have the same type: float, or fraction.
    """
    steps = draw(st.integers(1, max_steps))
    warmup = draw(st.integers(0, steps - 1))
    ratios: st.SearchStrategy[float | Fraction] = draw(st.sampled_from(_RATIOS))
    first, second = draw(ratios), draw(ratios)
    return CubicSchedule(
        steps=steps,
        final_sparsity=max(first, second),
        initial_sparsity=min(first, second),
        warmup=warmup,
        cooldown=draw(st.integers(0, steps - 1 - warmup)),
        interval=draw(st.integers(1, max_steps)),
    )
