"""The one error that people see: what is wrong, where, and what to type."""

from __future__ import annotations


class BattenError(Exception):
    """A problem that the person at the keyboard can fix.

    ``what`` says what is wrong, ``where`` names the file, key, host or service, ``fix`` says what to type or change.
    """

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        first, line, rest = self.what.partition("\n")  # below the first line stands a table or another's words
        text = f"{first} ({self.where}){line}{rest}" if self.where else self.what
        return f"{text}\n  fix: {self.fix}" if self.fix else text
