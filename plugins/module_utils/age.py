"""The program age, from the distribution's own packages."""

from __future__ import annotations

import shutil

from .errors import BattenError


def ensure(check: bool) -> list[str]:
    """Install age if it is not there; return what changed. Raises BattenError where the distribution has none."""
    if shutil.which("age") and shutil.which("age-keygen"):
        return []
    if check:
        return ["age: installed"]
    from .engine_host import APT, APT_ENVIRONMENT, must

    again = "install age by hand (https://age-encryption.org), and run again"
    if shutil.which("apt-get"):
        must([*APT, "update"], again, APT_ENVIRONMENT)
        must([*APT, "install", "--no-install-recommends", "age"], again, APT_ENVIRONMENT)
    elif shutil.which("dnf"):  # in EPEL, on RHEL and its kin
        must(["dnf", "-y", "-q", "install", "age"], again, {"LC_ALL": "C"})
    else:
        raise BattenError("age is not installed, and neither apt-get nor dnf is here", "this host", again)
    return ["age: installed"]
