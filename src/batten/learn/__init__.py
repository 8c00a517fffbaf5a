"""Learning a profile: run a service apart from everything, watch it, propose, and see the proposal hold.

``isolate`` and ``propose`` are pure; ``watch`` and ``trial`` talk to the engine; ``session`` puts them together.
"""

from batten.learn.session import Learned, learn

__all__ = ["Learned", "learn"]
