"""The labels that Compose puts on what it makes (docker/compose, pkg/api/labels.go)."""

from __future__ import annotations

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"
"""``True`` on a container of ``docker compose run``."""
