"""Hypothesis profiles: `dev` by default, `ci` where CI is set, or the one HYPOTHESIS_PROFILE names.

No deadline in any of them: on a shared machine the time of one example says nothing about the code,
and neither does slow generation. `ci` is derandomised, so that a change fails for what it changed.
"""

import os

from hypothesis import HealthCheck, settings

SHARED_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("dev", SHARED_MACHINE, max_examples=50)
settings.register_profile("ci", SHARED_MACHINE, max_examples=50, derandomize=True)
settings.register_profile("thorough", SHARED_MACHINE, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))
