"""Where the gallery is kept, as the pipeline configures it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from gait.strict import StrictModel
from pipeline.errors import ConfigError
from pipeline.gallery.database import has_literal_password, is_url
from pipeline.gallery.store import GalleryStore
from pipeline.privacy.cipher import Cipher
from pipeline.privacy.keys import KeyConfig
from pipeline.privacy.pseudonyms import PseudonymKey


class StoreConfig(StrictModel):
    """Where people are kept, and what is kept of them.

    Attributes:
        mode: "anonymous": people get pseudonyms ("person-001") and nothing else is known of them.
            "named": those are recognised who were enrolled by name, each with what allows it;
            a run adds nobody to the gallery, and no walk to anybody.
        path: The gallery's file, made if missing, or the address of a PostgreSQL server that
            several machines share (postgresql+psycopg://user@host/database); null keeps it in
            memory for this run only.
        password: The server's, best as "${GALLERY_PASSWORD}"; never printed.
        keep_silhouettes: Keep the silhouettes of exemplars, so that a gallery outlives the model
            that made it (`trackletgait gallery re-embed`), at the price of 11 KB each and of
            holding more about people.
        key: Where the site's secret key is. With one, embeddings and silhouettes are encrypted
            and pseudonyms are such that no other site's can be compared; null stores them
            plainly.
    """

    mode: Literal["anonymous", "named"] = "anonymous"
    path: str | None = Field(default=None, min_length=1)
    password: SecretStr | None = None
    keep_silhouettes: bool = False
    key: KeyConfig | None = None

    def is_there(self) -> bool:
        """Return whether the gallery is a file that holds something."""
        path = None if self.path is None or is_url(self.path) else Path(self.path)
        return path is not None and path.exists() and path.stat().st_size > 0

    def open_store(self, *, model_hash: str | None) -> GalleryStore:
        """Return the open store; the caller closes it.

        Args:
            model_hash: The encoder's; None opens a gallery that is there, whatever made it.

        Raises:
            ConfigError: The key cannot be read, or the address holds a password.
            GalleryError: It cannot be opened, or was made by another model.
        """
        if self.path is not None and has_literal_password(self.path):
            # Addresses are printed and written into run.json.
            raise ConfigError(
                "gallery.path: expected an address without a password; write it as ${NAME} of an "
                "environment variable into gallery.password"
            )
        return GalleryStore(
            self.path,
            model_hash=model_hash,
            password=None if self.password is None else self.password.get_secret_value(),
            keep_silhouettes=self.keep_silhouettes,
            cipher=None if self.key is None else Cipher.load(self.key),
            pseudonyms=None if self.key is None else PseudonymKey.load(self.key),
        )
