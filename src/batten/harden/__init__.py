"""Anyone's Compose files: read through Compose, planned by the planner, rendered by the renderer, and reported on."""

from batten.harden.save import save
from batten.harden.stack import Hardened, credentials_of, harden

__all__ = ["Hardened", "credentials_of", "harden", "save"]
