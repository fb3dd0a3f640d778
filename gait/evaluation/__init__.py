"""How good a network is: the benchmarks' protocols, and the open-set figures they leave out.

evaluation = evaluate("gait3d", embeddings, keys, probe_set=partition.probe)
evaluation.metrics["rank-1"]                         # a fraction
"""

from __future__ import annotations

from gait.evaluation.protocols import PROTOCOLS, evaluate
from gait.evaluation.report import Evaluation, Table

__all__ = ["PROTOCOLS", "Evaluation", "Table", "evaluate"]
