"""A key pair as age-keygen makes it, made here: the machine that runs the tests need not have age."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def new() -> tuple[str, str]:
    """Return a private and its public key (age's specification, "The X25519 recipient type"; Bech32 is BIP 173)."""
    key = X25519PrivateKey.generate()
    private = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _bech32("age-secret-key-", private).upper() + "\n", _bech32("age", public)


def _bech32(prefix: str, content: bytes) -> str:
    number = int.from_bytes(content, "big") << (-len(content) * 8 % 5)
    words = [number >> shift & 31 for shift in range(((len(content) * 8 + 4) // 5 - 1) * 5, -1, -5)]
    expanded = [ord(each) >> 5 for each in prefix] + [0] + [ord(each) & 31 for each in prefix]
    sum_ = _polymod([*expanded, *words, *[0] * 6]) ^ 1
    check = [sum_ >> 5 * (5 - place) & 31 for place in range(6)]
    return prefix + "1" + "".join(_CHARACTERS[each] for each in (*words, *check))


def _polymod(values: list[int]) -> int:
    state = 1
    for value in values:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate(_GENERATOR):
            state ^= factor if top >> bit & 1 else 0
    return state
