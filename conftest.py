"""What all of the project's own tests share: pytester, and hypothesis without chance or deadlines.

Verdicts must not depend on the run, so examples are derived from the test itself; HYPOTHESIS_PROFILE=explore looks for new ones.
"""

import os

from hypothesis import settings

pytest_plugins = ["pytester"]

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
