"""batten: take a Docker Compose stack to hardened production, and keep it there."""
