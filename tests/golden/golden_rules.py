# Given, not ours to restyle: kept as it came, so that it can be compared with its origin.
# ruff: noqa
# fmt: off
"""Deterministic input/weight rules for the golden vectors (numpy only, written for this project).

Nothing here comes from the original release; the rules only generate inputs and weights.
See README.md in this folder for what each stored array is.
"""
import zlib
import numpy as np


def gen(name):
    """PCG64 generator seeded with crc32 of the UTF-8 name."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode("utf-8"))))


def weight(key, shape):
    """float64 value of the state-dict entry `key` (cast it to the run's dtype afterwards)."""
    shape = tuple(shape)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    x = gen(key).standard_normal(shape)
    if key.endswith("running_var"):
        return 0.75 + 0.25 * np.abs(x)
    if key.endswith("running_mean"):
        return 0.1 * x
    if key.endswith("bias"):
        return 0.1 * x
    if len(shape) == 1:                      # batch-norm scale
        return 1.0 + 0.1 * x
    if key.endswith("fc_bin"):               # (parts, in, out)
        return x / np.sqrt(shape[1])
    return x / np.sqrt(np.prod(shape[1:]))   # convolution: fan_in


def silhouettes(n, s, height=64, width=44):
    """uint8 {0,1} array [n, s, height, width]; integer arithmetic only (// is floor division)."""
    y = np.arange(height)[:, None]
    x = np.arange(width)[None, :]
    out = np.zeros((n, s, height, width), np.uint8)
    for b in range(n):
        for t in range(s):
            sw = abs((2 * t + 5 * b) % 20 - 10) - 5
            cx, ry, rx = 22, 14, 7 + b % 3
            m = (y - 8) ** 2 + (x - cx) ** 2 <= 25
            m = m | ((y - 26) ** 2 * rx * rx + (x - cx) ** 2 * ry * ry <= rx * rx * ry * ry)
            leg = (y >= 36) & (y <= 62)
            off = (sw * (y - 36)) // 13
            m = m | (leg & (np.abs(x - (cx + off)) <= 3)) | (leg & (np.abs(x - (cx - off)) <= 3))
            flip = (73 * y + 151 * x + 199 * t + 283 * b) % 97 == 0
            out[b, t] = (m ^ flip).astype(np.uint8)
    return out


def eval_features(ds, labels, types, views, shape=(16, 4)):
    """float64 [N, 16, 4] features for the evaluator goldens; cast to float32 for the reference run."""
    f = 1.0 * gen(f"eval/{ds}/noise").standard_normal((len(labels),) + shape)
    for i, (l, t, v) in enumerate(zip(labels, types, views)):
        f[i] += 0.5 * gen(f"eval/{ds}/id/{l}").standard_normal(shape) \
            + 0.6 * gen(f"eval/{ds}/view/{v}").standard_normal(shape) \
            + 0.4 * gen(f"eval/{ds}/type/{t}").standard_normal(shape)
    return f


def listing(ids, types, views, drop=lambda i, t, v: False):
    """Samples in the order id -> type -> view."""
    rows = [(i, t, v) for i in ids for t in types for v in views if not drop(i, t, v)]
    return [list(c) for c in zip(*rows)]


def casiab():
    return listing(["%03d" % i for i in range(75, 81)],
                   ["bg-01", "bg-02", "cl-01", "cl-02", "nm-01", "nm-02", "nm-03", "nm-04", "nm-05", "nm-06"],
                   ["%03d" % (18 * i) for i in range(11)],
                   lambda i, t, v: (i, t, v) == ("076", "nm-05", "090"))           # ds = "CASIA-B"


def oumvlp():
    views = ["000", "015", "030", "045", "060", "075", "090", "180", "195", "210", "225", "240", "255", "270"]
    return listing(["%05d" % i for i in range(2, 22, 2)], ["00", "01"], views,
                   lambda i, t, v: (i == "00006" and t == "01") or (i, t, v) == ("00008", "01", "045"))  # ds = "OUMVLP"


def sustech1k():
    return listing(["%04d" % i for i in (1, 3, 4, 6, 7, 9, 10, 12)],
                   ["00-nm", "00-nt", "01-nm", "01-bg", "02-cl", "01-cr", "02-ub", "01-uf", "03-oc", "04-nt", "01-cr-uf"],
                   ["%03d" % (30 * i) for i in range(12)])                            # ds = "SUSTech1K"


def ccpg():
    L, T, V = listing(["%03d" % i for i in range(100, 108)],
                      ["U0_D0", "U0_D0_BG", "U0_D3", "U1_D0", "U1_D1", "U2_D2", "U3_D3"],
                      ["%02d_0" % i for i in range(1, 11)],
                      lambda i, t, v: (i, t, v) == ("103", "U0_D3", "04_0"))
    return L + ["105", "105"], T + ["U1_D1", "U3_D3"], V + ["02_1", "02_1"]        # ds = "CCPG"


def gait3d():
    """labels, types, views and the PROBE_SET strings; ds = "Gait3D"."""
    L, T, V = [], [], []
    for k, i in enumerate("%04d" % x for x in range(2, 42)):
        for c in range(1 + (k * 3) % 5):
            L.append(i); T.append("camid%d_videoid%d" % ((7 * k + c) % 39, 1 + c % 4)); V.append("seq0")
    seen, probe = set(), []
    for l, t, v in zip(L, T, V):
        if l not in seen and int(l) % 2 == 0:
            probe.append(f"{l}-{t}-{v}")
        seen.add(l)
    return L, T, V, probe


def grew():
    """labels, types, views, features (float64); 24 gallery ids x {01, 02}, 10 probes of type 03."""
    L, T, V = [], [], []
    for i in range(1, 25):
        for t in ("01", "02"):
            L.append("%05d" % i); T.append(t); V.append("g%05d%s" % (i, t))
    for q in range(10):
        L.append("probe"); T.append("03"); V.append("p%03d" % q)
    f = eval_features("GREW", L, T, V)
    for q in range(10):                      # give probe q the identity (3q mod 24) + 1
        f[48 + q] += 0.5 * gen("eval/GREW/id/%05d" % ((3 * q) % 24 + 1)).standard_normal((16, 4)) \
            - 0.5 * gen("eval/GREW/id/probe").standard_normal((16, 4))
    return L, T, V, f


def loss_case(name):
    """(embeddings float64 [n, c, p], labels) of the triplet cases A..F."""
    e = gen("hardex/" + name).standard_normal((6 if name == "E" else 16, 32, 3))
    block, mixed = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4, [2, 0, 1, 3] * 4
    centres = gen("hardex/centres").standard_normal((4, 32, 3))[np.array(mixed)]
    return {"A": (e, block), "B": (e, mixed), "C": (0.05 * e, mixed),
            "D": (10 * centres + 0.1 * e if name != "E" else e, mixed), "E": (e, [0, 1, 2, 3, 4, 5]),
            "F": (0.15 * centres + 0.1 * e if name != "E" else e, mixed)}[name]


def raw_silhouette(name):
    """uint8 240x320 frames for the pretreatment goldens."""
    H, W = 240, 320
    Y, X = np.arange(H)[:, None], np.arange(W)[None, :]

    def ellipse(cy, cx, ry, rx, val=255):
        return np.where((Y - cy) ** 2 * rx * rx + (X - cx) ** 2 * ry * ry <= rx * rx * ry * ry, val, 0).astype(np.uint8)

    def rect(y0, y1, x0, x1, val=255):
        a = np.zeros((H, W), np.uint8); a[y0:y1, x0:x1] = val; return a

    if name == "walker":
        a = np.zeros((H, W), np.uint8); a[60:124, 100:144] = silhouettes(1, 1)[0, 0] * 255; return a
    return {"centre": lambda: ellipse(120, 160, 80, 30), "left_edge": lambda: ellipse(120, 5, 80, 30),
            "right_edge": lambda: ellipse(120, 315, 80, 30), "wide": lambda: ellipse(120, 160, 40, 100),
            "grey128": lambda: ellipse(120, 160, 80, 30, 128),
            "two_blobs": lambda: np.maximum(ellipse(120, 100, 70, 20), ellipse(150, 230, 60, 25)),
            "px39": lambda: rect(100, 113, 160, 163), "px40": lambda: rect(100, 108, 160, 165),
            "column0": lambda: rect(0, 240, 0, 1), "tall_thin": lambda: rect(10, 230, 150, 156),
            "empty": lambda: rect(0, 0, 0, 0)}[name]()
