"""For `bake_bodies.py`: one coarse mesh for many bodies.

Legend of the shape suffixes: K bodies, V vertices, F faces.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Decimation:
    """Quadric edge collapse onto existing vertices (Garland and Heckbert 1997).

    The error is summed over several bodies, so that one topology suits all of them; an edge across
    which the skin weights change costs extra, so that joints keep the rings they bend with.
    The line between two clothing regions stays where it is: its vertices only move along it.
    """

    def __init__(
        self,
        shapes_KV3: Floats,
        faces: Ints,
        parts: NDArray[np.uint8],
        weights: Floats,
        hidden: NDArray[np.bool_],
    ) -> None:
        self.shapes, self.weights = shapes_KV3, weights
        self.faces = [tuple(int(i) for i in face) for face in faces]
        self.around: list[set[int]] = [set() for _ in range(shapes_KV3.shape[1])]
        for index, face in enumerate(self.faces):
            for vertex in face:
                self.around[vertex].add(index)
        self.kinds = [{int(parts[face]) for face in around} for around in self.around]
        self.quadrics, self.area = self._quadrics(faces, hidden)
        self._hold_lines(faces, parts)
        self.stamp = [0] * len(self.around)
        self.alive = sum(bool(a) for a in self.around)

    def _quadrics(self, faces: Ints, hidden: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        corners = self.shapes[:, faces]
        normal = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
        area = np.linalg.norm(normal, axis=-1, keepdims=True)
        normal /= area + 1e-12
        plane = np.concatenate((normal, -np.sum(normal * corners[:, :, 0], -1, keepdims=True)), -1)
        area = area * np.where(hidden[faces].any(1), 0, 1)[:, None]
        quadric = plane[..., :, None] * plane[..., None, :] * area[..., None]
        total = np.zeros((*self.shapes.shape[:2], 4, 4))
        size = np.zeros(self.shapes.shape[1])
        for corner in range(3):
            for shape in range(len(self.shapes)):
                np.add.at(total[shape], faces[:, corner], quadric[shape])
            np.add.at(size, faces[:, corner], area[..., 0].mean(0))
        return total, size

    def _hold_lines(self, faces: Ints, parts: NDArray[np.uint8]) -> None:
        """Add upright planes along the lines between regions, so that those keep their course."""
        seen: dict[tuple[int, int], int] = {}
        for face, (a, b, c) in enumerate(faces.tolist()):
            for start, end in ((a, b), (b, c), (c, a)):
                other = seen.setdefault((min(start, end), max(start, end)), face)
                if parts[other] == parts[face]:
                    continue
                at = self.shapes[:, faces[face]]
                along = self.shapes[:, end] - self.shapes[:, start]
                normal = np.cross(np.cross(at[:, 1] - at[:, 0], at[:, 2] - at[:, 0]), along)
                normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
                offset = -np.sum(normal * self.shapes[:, start], 1, keepdims=True)
                plane = np.concatenate((normal, offset), axis=1)
                plane *= np.linalg.norm(along, axis=1, keepdims=True)
                self.quadrics[:, [start, end]] += (plane[:, :, None] * plane[:, None])[:, None]

    def run(self, keep: int) -> tuple[Ints, Ints, Ints]:
        """Collapse until `keep` vertices are left.

        Returns:
            Old indices of the vertices kept, the new faces, and old indices of the faces kept.
        """
        heap: list[tuple[float, int, int, int, int]] = []
        for vertex in range(len(self.around)):
            self._push(heap, vertex)
        while self.alive > keep and heap:
            _, gone, kept, stamp_gone, stamp_kept = heapq.heappop(heap)
            fresh = self.stamp[gone] == stamp_gone and self.stamp[kept] == stamp_kept
            if fresh and self._may(gone, kept):
                self._collapse(gone, kept)
                for vertex in self._neighbours(kept) | {kept}:
                    self.stamp[vertex] += 1
                for vertex in self._neighbours(kept) | {kept}:
                    self._push(heap, vertex)
        left = np.array([v for v, around in enumerate(self.around) if around])
        names = {int(old): new for new, old in enumerate(left)}
        alive = sorted({face for around in self.around for face in around})
        new_faces = np.array([[names[v] for v in self.faces[face]] for face in alive])
        return left, new_faces, np.array(alive)

    def _neighbours(self, vertex: int) -> set[int]:
        return {v for face in self.around[vertex] for v in self.faces[face]} - {vertex}

    def _push(self, heap: list[tuple[float, int, int, int, int]], vertex: int) -> None:
        """Offer to collapse `vertex` onto each neighbour, and each neighbour onto it."""
        near = np.array(sorted(self._neighbours(vertex)), dtype=np.int64)
        if not len(near):
            return
        for gone, kept in ((np.full_like(near, vertex), near), (near, np.full_like(near, vertex))):
            at = np.concatenate(
                (self.shapes[:, kept], np.ones((len(self.shapes), len(near), 1))), 2
            )
            quadric = self.quadrics[:, gone] + self.quadrics[:, kept]
            error = np.einsum("kni,knij,knj->n", at, quadric, at) / len(self.shapes)
            length = np.sum((self.shapes[:, gone] - self.shapes[:, kept]) ** 2, -1).mean(0)
            bend = np.sum((self.weights[gone] - self.weights[kept]) ** 2, -1)
            cost = error + self.area[gone] * (4e-5 * bend + 2e-2 * length**2 + 1e-3 * bend * length)
            for c, g, k in zip(cost, gone, kept, strict=True):
                heapq.heappush(
                    heap, (float(c), int(g), int(k), self.stamp[int(g)], self.stamp[int(k)])
                )

    def _may(self, gone: int, kept: int) -> bool:
        """Say whether a collapse keeps the surface closed and flips no face over."""
        if not self.kinds[gone] <= self.kinds[kept]:
            return False
        if len(self._neighbours(gone) & self._neighbours(kept)) != 2:
            return False
        for face in self.around[gone] - self.around[kept]:
            before = self.shapes[:, list(self.faces[face])]
            after = self.shapes[:, [kept if v == gone else v for v in self.faces[face]]]
            old = np.cross(before[:, 1] - before[:, 0], before[:, 2] - before[:, 0])
            new = np.cross(after[:, 1] - after[:, 0], after[:, 2] - after[:, 0])
            size = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
            if self.area[gone] > 0 and np.any(np.sum(old * new, 1) < 0.2 * size):
                return False
        return True

    def _collapse(self, gone: int, kept: int) -> None:
        for face in list(self.around[gone]):
            if kept in self.faces[face]:
                for vertex in self.faces[face]:
                    self.around[vertex].discard(face)
            else:
                self.faces[face] = tuple(kept if v == gone else v for v in self.faces[face])
                self.around[kept].add(face)
        self.around[gone] = set()
        self.quadrics[:, kept] += self.quadrics[:, gone]
        self.area[kept] += self.area[gone]
        self.alive -= 1
