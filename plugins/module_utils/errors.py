"""The one error that people see, on the controller (``batten.errors``) and on hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class BattenError(Exception):
    """A problem that the person at the keyboard can fix: what is wrong, where, and what to type.

    ``what`` is one sentence, and below it may stand a table or another's words; ``where`` names the file, key, host or
    service; ``fix`` says what to type or change. Never put a secret value in any of them.
    """

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  fix: {self.fix}" if self.fix else text


@contextmanager
def reported(fail: Callable[..., Any]) -> Iterator[None]:
    """Tell what goes wrong in the block by ``fail``, a module's ``fail_json``, which ends the module."""
    try:
        yield
    except BattenError as error:
        fail(msg=str(error))
    except OSError as error:
        from .immutable import explained  # it raises our error, so it imports this file

        told = explained(error)
        if told is not None:
            fail(msg=str(told))
        fail(msg=f"{error}\n  fix: see that the disk is not full (df -h; df -i) and writable, and run again")
