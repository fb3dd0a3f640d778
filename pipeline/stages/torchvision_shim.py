"""A torchvision built for CUDA made usable beside a torch built for the CPU.

`torchvision` 0.28.0 on PyPI is a CUDA build. On a CPU torch its own operators cannot load, and
importing it fails with "operator torchvision::nms does not exist", which takes ultralytics and
segment_anything with it. Of those operators only non-maximum suppression is needed here, so it is
registered in plain torch and the import tried again.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_libraries: list[Any] = []  # torch forgets the operator when its library object is collected


def ensure_torchvision() -> None:
    """Make `import torchvision` work when only its compiled operators are missing.

    Raises:
        ImportError: torchvision or torch is not installed at all.
    """
    with _lock:
        try:
            import torchvision  # noqa: F401
        except (RuntimeError, OSError) as error:
            logger.debug("torchvision's operators do not load (%s); registering nms", error)
            _import_with_nms()


def _import_with_nms() -> None:
    import torch

    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported by the failed attempt
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _libraries.append(library)
    import torchvision.ops.boxes

    torchvision.ops.boxes._assert_has_ops = lambda: None


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Return the kept rows, best first, as `torchvision.ops.nms` does."""
    import torch

    from pipeline.stages.detect_boxes import suppress

    kept = suppress(boxes.detach().numpy(), scores.detach().numpy(), iou_threshold)
    return torch.from_numpy(kept)
