"""What a gallery can be told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from pipeline.errors import ConfigError
from pipeline.gallery.calibration import Calibration, bundled_calibration, read_calibration
from pipeline.gallery.coarse import CoarseConfig
from pipeline.gallery.decision import DecisionConfig, FixedLimit, Limit, LimitRule, RateLimit
from pipeline.gallery.gallery import Gallery
from pipeline.gallery.store import GalleryStore
from pipeline.gallery.store_config import StoreConfig
from pipeline.gallery.whereabouts import WhereaboutsConfig


class GalleryConfig(StoreConfig):
    """Who may be recognised, and how strictly; `StoreConfig` tells where they are kept.

    Attributes:
        threshold: Largest distance at which two walks are one person's, in the paper's metric
            (mean over 16 parts of Euclidean distances). Higher recognises more people again, at
            the price of taking more strangers for somebody known. It belongs to a model, so null
            takes `false_positive_rate`, or else the encoder's own, and an encoder without one wants
            a number.
        false_positive_rate: Share of strangers who may be taken for somebody known; the threshold
            then follows from the calibration and the size of the gallery. Higher recognises more
            people again, at the price of more strangers taken for somebody.
        calibration: File that `trackletgait calibrate` wrote for this encoder; null takes the one
            that comes with a bundled encoder. Without one there are no probabilities.
        decision: How the tracklets of one track decide together.
        explain: Say of every match why (`Match.explanation`, and `explanation` in the results), at
            the price of a little time and larger results.
        max_exemplars: Tracklets kept of each person. Higher knows people from more sides, at the
            price of memory (11 KB each) and search time.
        remember_s: How long a track is remembered after it was last heard of, on its stream's
            clock. Higher keeps two people apart who were visible together although the second
            gave its first usable silhouettes only much later, at the price of memory.
        whereabouts: What place and time say of who a track can be.
        revise_s: For how long after its end a track may still turn out to be somebody else, at
            most `remember_s`; 0 leaves what was said. Higher corrects more, at the price of
            answers that stay open for longer.
        coarse: How galleries that are too large to search whole are searched, by faiss; null
            searches them exactly.
    """

    threshold: float | None = Field(default=None, ge=0)
    false_positive_rate: float | None = Field(default=None, gt=0, lt=1)
    calibration: str | None = None
    decision: DecisionConfig = DecisionConfig()
    explain: bool = False
    max_exemplars: int = Field(default=10, ge=1)
    remember_s: float = Field(default=300.0, ge=0)
    whereabouts: WhereaboutsConfig = WhereaboutsConfig()
    revise_s: float = Field(default=120.0, ge=0)
    coarse: CoarseConfig | None = None

    @model_validator(mode="after")
    def _one_threshold(self) -> GalleryConfig:
        if self.threshold is not None and self.false_positive_rate is not None:
            raise ValueError(
                "expected either threshold or false_positive_rate, got both: leave out one"
            )
        return self

    def build(self, *, model_hash: str, threshold: float | None) -> Gallery:
        """Return the gallery; the caller closes it.

        Args:
            model_hash: The encoder's; only embeddings of one encoder compare.
            threshold: The encoder's own, for when none is configured.

        Raises:
            ConfigError: There is no threshold, or the calibration cannot be used.
            GalleryError: The file cannot be opened, or belongs to another model.
            ModelError: A bundled calibration is missing or damaged.
        """
        calibration = self._calibration(model_hash)
        limits = self._limits(calibration, threshold)
        store = self.open_store(model_hash=model_hash)
        try:
            return Gallery(store, self, limits=limits, calibration=calibration)
        except BaseException:
            store.close()
            raise

    def limit(self, store: GalleryStore, *, threshold: float | None) -> Limit | None:
        """Return how near is near enough in a gallery as it is; None where nothing says so.

        Args:
            store: The gallery, of the configured encoder.
            threshold: The encoder's own.

        Raises:
            ConfigError: The calibration cannot be used.
        """
        if self.threshold is self.false_positive_rate is threshold is None:
            return None
        calibration = self._calibration(store.model_hash())
        num_exemplars = sum(person.num_exemplars for person in store.people())
        return self._limits(calibration, threshold).limit(num_exemplars)

    def _calibration(self, model_hash: str) -> Calibration | None:
        if self.calibration is None:
            return bundled_calibration(model_hash)
        return read_calibration(Path(self.calibration).expanduser(), model_hash=model_hash)

    def _limits(self, calibration: Calibration | None, encoders: float | None) -> LimitRule:
        if self.threshold is not None:
            return FixedLimit(self.threshold, "config")
        if self.false_positive_rate is not None:
            if calibration is None:
                raise ConfigError(
                    "gallery.false_positive_rate: expected a calibration of this encoder, since it "
                    "brings none; make one with `trackletgait calibrate` and give "
                    "gallery.calibration=FILE"
                )
            return RateLimit(calibration, self.false_positive_rate)
        if encoders is None:
            raise ConfigError(
                "gallery.threshold: expected a distance, since these weights bring none; run once "
                "with gallery.threshold=0, fit a calibration with `trackletgait calibrate RESULTS` "
                "and give gallery.calibration=FILE and gallery.false_positive_rate=0.1"
            )
        return FixedLimit(encoders, "encoder")
