"""Running agents into the log: one lane per thread this node owns, one execution per run under way.

`Runner` is what the service asks; everything else here is its own.
"""

from runcast.running.limits import Limits as Limits
from runcast.running.runner import Runner as Runner
