"""The protocols of the six data sets by name, and `evaluate`, which runs one (spec c.4)."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gait.evaluation import ccpg
from gait.evaluation.ccpg import Ccpg
from gait.evaluation.openset import OpenSetConfig
from gait.evaluation.pooled import (
    Retrieval,
    each_against_all_trial,
    grew_local,
    grew_submission,
    probe_set_trial,
)
from gait.evaluation.ranking import Floats
from gait.evaluation.report import Evaluation
from gait.evaluation.rerank import RerankConfig
from gait.evaluation.setting import Run, Setting
from gait.evaluation.single_view import Condition, CrossView, SingleView
from gait.evaluation.trials import Key, Metric, Precision, TestSet

_NM = tuple(f"nm-{index:02d}" for index in range(1, 5))
_CASIA_B = (
    Condition("NM", ("nm-05", "nm-06"), _NM),
    Condition("BG", ("bg-01", "bg-02"), _NM),
    Condition("CL", ("cl-01", "cl-02"), _NM),
)
_SECONDS = ("nm-02", "bg-02", "cl-02")
_CASIA_B_CROSS_VIEW = (
    Condition("NM", ("nm-01",), _SECONDS),
    Condition("BG", ("bg-01",), _SECONDS),
    Condition("CL", ("cl-01",), _SECONDS),
)
_OU_MVLP = (Condition("NM", ("00",), ("01",)),)
# Parts of names, so 01-cr-uf counts as Carrying and as Uniform, and 00-nt as Night but not in
# Overall, which is a pool of its own and no mean. Umberalla is the benchmark's spelling.
_SUSTECH1K = tuple(
    Condition(name, parts, ("00-nm",))
    for name, parts in (
        ("Normal", ("01-nm",)),
        ("Bag", ("bg",)),
        ("Clothing", ("cl",)),
        ("Carrying", ("cr",)),
        ("Umberalla", ("ub",)),
        ("Uniform", ("uf",)),
        ("Occlusion", ("oc",)),
        ("Night", ("nt",)),
        ("Overall", ("01", "02", "03", "04")),
    )
)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A protocol with its name in words.

    Attributes:
        title: To print with every figure.
        run: Does it.
        dataset: The data set it belongs to, by its name in `gait.data.datasets`; None for any.
        can_rerank: Whether re-ranking makes sense: it needs one gallery for all probes.
        is_published: Whether papers report its figures.
    """

    title: str
    run: Run
    dataset: str | None
    can_rerank: bool = False
    is_published: bool = True


PROTOCOLS: dict[str, Benchmark] = {
    "casia-b": Benchmark("CASIA-B, single-view gallery", SingleView(_CASIA_B), "casia-b"),
    "casia-b-cross-view": Benchmark(
        "CASIA-B, cross-view gallery (not the reported protocol)",
        CrossView(_CASIA_B_CROSS_VIEW),
        "casia-b",
        is_published=False,
    ),
    "ou-mvlp": Benchmark(
        "OU-MVLP, single-view gallery, all probes", SingleView(_OU_MVLP), "ou-mvlp"
    ),
    "ou-mvlp-cross-view": Benchmark(
        "OU-MVLP, cross-view gallery (not the reported protocol)",
        CrossView(_OU_MVLP),
        "ou-mvlp",
        is_published=False,
    ),
    "sustech1k": Benchmark(
        "SUSTech1K, single-view gallery",
        SingleView(_SUSTECH1K, (1, 2, 3, 4, 5), part=True),
        "sustech1k",
    ),
    "gait3d": Benchmark(
        "Gait3D, probe set against the rest", Retrieval(probe_set_trial), "gait3d", can_rerank=True
    ),
    "grew": Benchmark(
        "GREW, submission file for the server", grew_submission, "grew", can_rerank=True
    ),
    "grew-local": Benchmark(
        "GREW, local proxy 02 against 01 (optimistic, not comparable)",
        grew_local,
        "grew",
        can_rerank=True,
        is_published=False,
    ),
    "ccpg": Benchmark("CCPG, all three protocols", Ccpg(), "ccpg"),
    "ccpg-reid": Benchmark(
        f"CCPG, {ccpg.TITLES['reid']}", Ccpg(("reid",)), "ccpg", can_rerank=True
    ),
    "ccpg-gait-including": Benchmark(
        f"CCPG, {ccpg.TITLES['gait-including']}", Ccpg(("gait-including",)), "ccpg"
    ),
    "ccpg-gait-excluding": Benchmark(
        f"CCPG, {ccpg.TITLES['gait-excluding']}", Ccpg(("gait-excluding",)), "ccpg"
    ),
    "each-against-all": Benchmark(
        "Each sequence against all others",
        Retrieval(each_against_all_trial),
        None,
        can_rerank=True,
        is_published=False,
    ),
}


def evaluate(
    protocol: str,
    embeddings: Floats,
    keys: Sequence[Key],
    *,
    probe_set: AbstractSet[str] | None = None,
    metric: Metric = "euclidean",
    precision: Precision = "float32",
    reranking: RerankConfig | None = None,
    open_set: OpenSetConfig | None = None,
) -> Evaluation:
    """Return how well the embeddings identify people by a data set's protocol.

    Memory stays below 3 GB for the 133,478 test sequences of OU-MVLP when the embeddings are
    memory-mapped float16.

    Args:
        protocol: A name in `PROTOCOLS`.
        embeddings: Shape (N, C, P), one a key; may be memory-mapped.
        keys: Subject, condition and view of each, in the data set's order: it settles ties.
        probe_set: `subject-condition-view` of every probe; for the protocol gait3d.
        metric: "euclidean", as the papers, or "cosine".
        precision: "float32"; "float16" repeats the release's mixed precision, rounding and all
            (spec c.2); "float64" is exact.
        reranking: k-reciprocal re-ranking, for the protocols with one gallery.
        open_set: Add FNIR, FPIR, DET and thresholds. Left out under re-ranking, which looks at all
            probes at once: no stranger stays unknown to it.

    Raises:
        ValueError: Unknown protocol, metric or precision, keys that do not fit the embeddings,
            or re-ranking where there is no one gallery.
        DataError: The test set lacks what the protocol compares, or holds NaN.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    benchmark = PROTOCOLS[protocol]
    if reranking is not None and not benchmark.can_rerank:
        allowed = ", ".join(name for name, each in PROTOCOLS.items() if each.can_rerank)
        raise ValueError(
            f"re-ranking needs one gallery for all probes, which {protocol} has not; it works "
            f"with {allowed}"
        )
    tests = TestSet.of(embeddings, keys, metric, precision)
    setting = Setting(
        tests,
        None if probe_set is None else frozenset(probe_set),
        reranking,
        open_set if reranking is None else None,
    )
    findings = benchmark.run(setting)
    return Evaluation(
        protocol,
        benchmark.title,
        metric,
        precision,
        reranking is not None,
        findings.metrics,
        tuple(findings.tables),
        tuple(findings.counts),
        tuple(findings.curves),
        tuple(findings.open_sets),
        findings.submission,
    )
