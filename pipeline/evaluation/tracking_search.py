"""Search a tracker's parameters on recorded detections; the only file that knows Optuna.

search = Search(config, material, objective="usable", seed=1, file=Path("study.log"))
search.run(trials=200, minutes=30)
search.best.config, search.best.value
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gait.errors import ConfigError, DataError
from pipeline.evaluation.tracking import follow
from pipeline.evaluation.tracking_folder import Sequence as Recording
from pipeline.evaluation.tracking_folder import Truth
from pipeline.evaluation.tracking_scores import Tally, score
from pipeline.stages.track import TrackerConfig
from trackers.boxes import Detections

OBJECTIVES: dict[str, Callable[[Tally], float]] = {
    "usable": lambda tally: tally.usable_s_per_person,
    "pure": lambda tally: tally.pure_share(4.0),
    "hota": lambda tally: tally.hota,
    "assa": lambda tally: tally.ass_a,
    "idf1": lambda tally: tally.idf1,
    "mota": lambda tally: tally.mota,
}
"""What may be sought, by name; higher is better.

`usable` is seconds of gait a person in pure tracks, `pure` the share of person-time in pure tracks
of at least 4 s; the others are MOTChallenge's.
"""

_RANGES: dict[str, tuple[float, float]] = {
    "high_confidence": (0.2, 0.7),
    "low_confidence": (0.05, 0.3),
    "new_confidence": (0.3, 0.9),
    "min_confidence": (0.1, 0.7),
    "max_newcomer_overlap": (0.2, 1.0),
    "box_margin": (0.0, 0.5),
    "lost_s": (0.3, 6.0),
    "confirm_frames": (1, 6),
}
"""Where to look for a parameter; others are sought within `_WIDTH` times their default."""

_WIDTH = 3.0
_FIXED = ("kind", "frame_interval_s")


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """One recording, read.

    Attributes:
        recording: Where from.
        truth: Who is where.
        detections: Of each frame.
    """

    recording: Recording
    truth: Truth
    detections: list[Detections]

    @classmethod
    def read(
        cls, recording: Recording, min_visible: float = 0.0, detections: Path | None = None
    ) -> Material:
        """Read a recording; as `Recording.truth` and `Recording.detections`.

        Raises:
            DataError: A file is missing or damaged.
        """
        return cls(recording, recording.truth(min_visible), recording.detections(detections))


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        config: The best parameters.
        value: What they reach.
        trials: How many sets of parameters were tried, those that cannot be included.
    """

    config: TrackerConfig
    value: float
    trials: int


def tally_of(
    config: TrackerConfig, material: Sequence[Material], on_recording: Callable[[], None]
) -> Tally:
    """Return how well a tracker does on all recordings together.

    Raises:
        ConfigError: The parameters cannot be.
    """
    total = Tally()
    for each in material:
        fps = each.recording.fps
        run = follow(config.build(), each.detections, fps=fps)
        frames = each.recording.num_frames
        total = total + score(each.truth, run.boxes, num_frames=frames, fps=fps)
        on_recording()
    return total


def ranges(
    config: TrackerConfig, fixed: Collection[str], given: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Return where to look for each parameter.

    Args:
        config: The tracker's.
        fixed: Parameters that stay as they are.
        given: Ranges that somebody chose.

    Raises:
        ConfigError: A parameter is unknown, or is no number.
    """
    values = {key: v for key, v in config.model_dump().items() if key not in _FIXED}
    if unknown := sorted({*fixed, *given} - values.keys()):
        raise ConfigError(
            f"{unknown[0]}: no parameter of {config.kind}; known here: {', '.join(values)}"
        )
    numbers = {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key not in fixed
    }
    if text := sorted(given.keys() - numbers.keys()):
        raise ConfigError(f"{text[0]}: expected a parameter that is a number and not fixed")
    return {
        key: given.get(key) or _RANGES.get(key) or _around(value) for key, value in numbers.items()
    }


def _around(value: float) -> tuple[float, float]:
    """Return where to look for a parameter of which only the default is known."""
    low, high = value / _WIDTH, value * _WIDTH
    return (low, min(1.0, high)) if value <= 1 else (low, high)  # overlaps and shares end at 1


class Search:
    """A search that can be stopped and taken up again.

    The first set of parameters tried is the one given. The same material, seed and number of
    trials give the same result when the search is not interrupted; taken up again it goes on with
    fresh numbers.

    Args:
        config: The tracker, and what its fixed parameters are.
        material: What to try it on.
        objective: One of `OBJECTIVES`.
        space: Where to look, from `ranges`.
        seed: All draws follow from it.
        file: Where trials are kept.

    Raises:
        ConfigError: Optuna is not installed.
        DataError: The file is damaged, or of another search.
    """

    def __init__(
        self,
        config: TrackerConfig,
        material: Sequence[Material],
        *,
        objective: str,
        space: Mapping[str, tuple[float, float]],
        seed: int,
        file: Path,
    ) -> None:
        self._config, self._material, self._space = config, material, space
        self._objective = OBJECTIVES[objective]
        self._optuna = _load()
        names = [each.recording.name for each in material]
        about = {
            "objective": objective,
            "tracker": config.model_dump(mode="json"),
            "recordings": names,
            "ranges": {key: list(value) for key, value in space.items()},
        }
        self._study = _open(self._optuna, file, about, seed)

    @property
    def tried(self) -> int:
        """How many sets of parameters were tried, earlier runs included."""
        return sum(trial.state.is_finished() for trial in self._study.get_trials(deepcopy=False))

    @property
    def best(self) -> Found | None:
        """The best so far; None when nothing could be tried."""
        done = self._optuna.trial.TrialState.COMPLETE
        if not self._study.get_trials(deepcopy=False, states=(done,)):
            return None
        best = self._study.best_trial
        changed = self._config.model_copy(update=best.params)
        return Found(changed, float(best.value), self.tried)

    def run(
        self,
        *,
        trials: int,
        minutes: float | None = None,
        on_recording: Callable[[], None] = lambda: None,
        on_trial: Callable[[], None] = lambda: None,
    ) -> None:
        """Try until there are `trials` in all, or the minutes are over.

        Args:
            trials: In all, earlier runs included.
            minutes: Longest time this run may take; a trial under way is finished.
            on_recording: Called after each recording of each trial.
            on_trial: Called after each trial.
        """
        if not self.tried:
            start = {key: getattr(self._config, key) for key in self._space}
            self._study.enqueue_trial(start, skip_if_exists=True)

        def objective(trial: Any) -> float:
            params = {key: self._suggest(trial, key) for key in self._space}
            try:
                config = self._config.model_copy(update=params)
                return self._objective(tally_of(config, self._material, on_recording))
            except ConfigError as error:  # such as a low confidence above the high one
                raise self._optuna.TrialPruned(str(error)) from error

        if (left := trials - self.tried) > 0:
            self._study.optimize(
                objective,
                n_trials=left,
                timeout=None if minutes is None else minutes * 60,
                callbacks=[lambda study, trial: on_trial()],
            )

    def _suggest(self, trial: Any, key: str) -> float | int:
        low, high = self._space[key]
        if isinstance(getattr(self._config, key), int):
            return int(trial.suggest_int(key, max(1, round(low)), round(high)))
        return float(trial.suggest_float(key, low, high))


def _load() -> Any:
    try:
        optuna = importlib.import_module("optuna")
        importlib.import_module("optuna.storages.journal")
    except ImportError as error:
        raise ConfigError(
            "searching parameters needs optuna; install it with `pip install "
            "'trackletgait[tracking]'`"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _open(optuna: Any, file: Path, about: dict[str, Any], seed: int) -> Any:
    """Return the study in a file, a new one where there is none."""
    is_new = not file.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(file))
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(
            storage=storage, study_name="tracker", direction="maximize", load_if_exists=True
        )
        if is_new:
            study.set_user_attr("about", about)
    except OSError as error:
        raise DataError(
            f"{file}: cannot keep the trials there ({error.strerror or error})"
        ) from error
    except Exception as error:  # a damaged journal fails with whatever its reader stumbles over
        raise DataError(f"{file}: expected the file of a search ({error})") from error
    if (old := study.user_attrs.get("about")) != about:
        what = [key for key in about if old is None or old.get(key) != about[key]]
        raise DataError(
            f"{file}: holds a search with another {what[0]}; give another --study, or remove it"
        )
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study
