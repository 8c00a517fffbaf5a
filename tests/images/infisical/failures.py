"""Errors as Infisical answers them: a status, a label (`error`) and a message; the label is no stable code."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error that becomes an answer. `message` is a list where it is one of zod's lists of issues."""

    def __init__(self, status: int, error: str, message: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(str(message))
        self.status = status
        self.error = error
        self.message = message
        self.headers = headers or {}


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized(message: str) -> ApiError:
    return ApiError(401, "UnauthorizedError", message)


def bad_token(message: str) -> ApiError:
    return ApiError(403, "TokenError", message)


def denied(action: str, subject: str) -> ApiError:
    return ApiError(403, "PermissionDenied", f"You are not allowed to {action} on {subject}")


def forbidden(reason: str) -> ApiError:
    """The reason is in `error`, and the message is always the same (recorded)."""
    return ApiError(403, reason, "You are not allowed to access this resource")


def not_found(message: str, error: str = "NotFound") -> ApiError:
    return ApiError(404, error, message)


def broken(error: str = "InternalServerError") -> ApiError:
    """What went wrong inside, said to nobody."""
    return ApiError(500, error, "Something went wrong")
