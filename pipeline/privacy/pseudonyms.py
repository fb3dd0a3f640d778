"""Names that say nothing of a person, and nothing to another site."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Self

from pipeline.privacy.keys import KeyConfig, check_keys, derived, read_keys

DAY_S = 86400.0
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U to misread
_SHORTEST = 4


class PseudonymKey:
    """Gives every identity a short name, such as "person-7K3Q".

    The name follows from the identity, the site's key and the period. Without the key nobody can
    tell whether two sites, or two periods, speak of the same person: their data cannot be joined
    by their names.

    Args:
        key: The site's, 32 bytes.

    Raises:
        ValueError: It has another length.
    """

    def __init__(self, key: bytes) -> None:
        self._key = derived(check_keys((key,))[0], "name")

    @classmethod
    def load(cls, config: KeyConfig) -> Self:
        """Return the one of the site's first key; after a rotation names are others.

        Raises:
            ConfigError: The keys are missing, readable by others, or none.
        """
        return cls(read_keys(config)[0])

    def pseudonym(
        self,
        identity_id: int | str,
        *,
        period: int = 0,
        is_taken: Callable[[str], bool] = lambda name: False,
    ) -> str:
        """Return the name of an identity.

        Args:
            identity_id: What tells it from the site's other identities.
            period: See `period_of`; another period gives another name.
            is_taken: Whether somebody else has a name already. Four letters tell a million apart,
                so among some hundred people two may share them: the later one's name is longer.
        """
        # The type is part of it: identity 1 and identity "1" are two.
        message = f"{period}|{type(identity_id).__name__}|{identity_id}".encode()
        number = int.from_bytes(hmac.digest(self._key, message, "sha256"))
        letters = ""
        while len(letters) < _SHORTEST or is_taken(f"person-{letters}"):
            if not number:
                raise ValueError(f"is_taken: expected some name to be free for {identity_id!r}")
            number, letter = divmod(number, len(_ALPHABET))
            letters += _ALPHABET[letter]
        return f"person-{letters}"


def period_of(unix_s: float, *, length_s: float = DAY_S) -> int:
    """Return the number of the period that a moment lies in.

    Args:
        unix_s: The moment, in seconds since 1970.
        length_s: How long a period lasts. Longer lets people be followed longer by their names.
    """
    return int(unix_s // length_s)
