"""A mesh as columns of solid spans on a horizontal grid. Says which tops are flat enough, not who can stand there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Triangle-cell pairs a mesh may have; a flat has a million, and every pair costs about a microsecond.
MAX_PAIRS = 60_000_000
# More cells than this along a side cannot be meant, and their numbers would not fit.
_MAX_SIDE = 2**31
_CHUNK_PAIRS = 200_000
# Surfaces closer than this, metres, are one solid: what rounding to float32 leaves between touching boxes.
_TOUCH_M = 1e-5


@dataclass(frozen=True, eq=False)
class Heightfield:
    """Solid spans, sorted by column and, within a column, from below.

    Args:
        origin_m: [2] x and y of the grid's lower corner; cell (ix, iy) spans cell_m from origin + (ix, iy) * cell_m.
        cell_m: edge of a cell.
        shape: cells along x and y.
        column: int64 [S], ix * shape[1] + iy.
        bottom_m: float64 [S]; top_m float64 [S].
        flat: bool [S], whether the top is within the slope limit.
    """

    origin_m: np.ndarray
    cell_m: float
    shape: tuple[int, int]
    column: np.ndarray
    bottom_m: np.ndarray
    top_m: np.ndarray
    flat: np.ndarray


def build_heightfield(corners_W: np.ndarray, cell_m: float, max_slope_rad: float, merge_m: float) -> Heightfield:
    """Rasterises triangles, exactly clipped at the cells' borders.

    Args:
        corners_W: float64 [T, 3, 3], metres, Z up.
        cell_m: edge of a cell.
        max_slope_rad: steeper triangles are not flat; those that face down are not either.
        merge_m: where solids overlap, a flat top this little below the highest keeps the column flat.

    Raises:
        ValueError: the grid would need too many cells.

    Source: voxel columns as in Recast's rasterisation; Differs: heights are not rounded.
    """
    corners = np.asarray(corners_W, np.float64)
    lowest, highest = _spread(corners)
    low, high = lowest[:, :2].min(axis=0), highest[:, :2].max(axis=0)
    shape = tuple(int(size) for size in np.maximum(np.ceil((high - low) / cell_m), 1))
    if max(shape) > _MAX_SIDE:
        raise ValueError(f"the mesh is {max(shape) * cell_m:.3g} m wide; are its coordinates metres?")
    columns, bottoms, tops, faces = _rasterize(corners, low, cell_m, shape)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = normals[:, 2] > np.cos(max_slope_rad) * np.linalg.norm(normals, axis=1)
    column, bottom, top, flat = _merge(columns, bottoms, tops, flat[faces], merge_m)
    return Heightfield(low, cell_m, shape, column, bottom, top, flat)


def _rasterize(corners: np.ndarray, low: np.ndarray, cell_m: float, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Column, lowest and highest point and triangle of every pair of triangle and cell that meet."""
    local = corners.copy()
    local[..., :2] = (corners[..., :2] - low) / cell_m
    lowest, highest = _spread(local)
    first = np.floor(lowest[:, :2]).astype(np.int64)
    # A triangle that ends on a border does not reach the next cell, unless it has no width at all.
    last = np.maximum(np.ceil(highest[:, :2]).astype(np.int64) - 1, first)
    first, last = np.minimum(first, np.array(shape) - 1), np.minimum(last, np.array(shape) - 1)
    size = last - first + 1
    pairs = size.prod(axis=1)
    if pairs.sum() > MAX_PAIRS:
        extent = " x ".join(f"{n * cell_m:,.0f} m" for n in shape)
        raise ValueError(
            f"the mesh covers {extent}; its triangles touch {pairs.sum():,} cells of {cell_m} m, at most {MAX_PAIRS:,} "
            "are handled: use a larger cell_m or cut the mesh to the part that matters"
        )
    small = pairs == 1
    column = first[small, 0] * shape[1] + first[small, 1]
    parts = [(column, lowest[small, 2], highest[small, 2], np.flatnonzero(small))]
    large = np.flatnonzero(~small)
    # Floors and table tops, most of the pairs indoors; without area there is no inside.
    is_level = (lowest[:, 2] == highest[:, 2]) & (_doubled_area(local) != 0)
    ends = np.cumsum(pairs[large])
    for start in range(0, int(ends[-1]) if len(large) else 0, _CHUNK_PAIRS):
        pair = np.arange(start, min(start + _CHUNK_PAIRS, ends[-1]))
        which = np.searchsorted(ends, pair, side="right")
        face = large[which]
        step = pair - (ends[which] - pairs[face])
        cell = first[face] + np.stack([step // size[face, 1], step % size[face, 1]], axis=1)
        level = is_level[face]
        parts.append(_covered(local[face[level]], cell[level], face[level], shape))
        parts.append(_clipped(local[face[~level]], cell[~level], face[~level], shape))
    return tuple(np.concatenate(blocks) for blocks in zip(*parts, strict=True))


def _spread(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest coordinates of every triangle, each [T, 3]; min() over an axis of three is far slower."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)


def _covered(triangles: np.ndarray, cell: np.ndarray, face: np.ndarray, shape: tuple[int, int]) -> tuple:
    """The same as _clipped for level triangles: they meet a cell if none of their edges has all of it outside.

    Their bounds meet the cell already.
    """
    x, y = (triangles[..., :2] - cell[:, None, :]).transpose(2, 1, 0)  # each [3, P], cell is [0, 1]
    sign = np.sign(_doubled_area(triangles))
    met = np.ones(len(cell), bool)
    for here, there in ((0, 1), (1, 2), (2, 0)):
        nx, ny = sign * (y[here] - y[there]), sign * (x[there] - x[here])  # inwards
        met &= np.maximum(nx, 0) + np.maximum(ny, 0) >= nx * x[here] + ny * y[here]
    z = triangles[met, 0, 2]
    return (cell[:, 0] * shape[1] + cell[:, 1])[met], z, z, face[met]


def _doubled_area(triangles: np.ndarray) -> np.ndarray:
    """Of the triangles [N, 3, 3] seen from above, [N]; negative where they are clockwise."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])


def _clipped(triangles: np.ndarray, cell: np.ndarray, face: np.ndarray, shape: tuple[int, int]) -> tuple:
    """Heights of each triangle's part in its cell; pairs that do not meet are left out.

    The part is a convex polygon. Its corners are corners of the triangle in the cell, crossings of the triangle's edges
    with the cell's borders, and corners of the cell under the triangle: their heights bound it.
    """
    x, y, z = (triangles - np.pad(cell, ((0, 0), (0, 1)))[:, None, :]).transpose(2, 1, 0)  # each [3, P], cell is [0, 1]
    low, high = np.full(len(cell), np.inf), np.full(len(cell), -np.inf)
    inside = (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
    _widen(low, high, z, inside)
    with np.errstate(divide="ignore", invalid="ignore"):
        for here, there in ((0, 1), (1, 2), (2, 0)):
            for along, across in ((x, y), (y, x)):
                for border in (0.0, 1.0):
                    t = (border - along[here]) / (along[there] - along[here])
                    other = across[here] + t * (across[there] - across[here])
                    on_both = (t >= 0) & (t <= 1) & (other >= 0) & (other <= 1)
                    _widen(low, high, z[here] + t * (z[there] - z[here]), on_both)
        area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
        for cx, cy in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
            v = ((cx - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (cy - y[0])) / area
            w = ((x[1] - x[0]) * (cy - y[0]) - (cx - x[0]) * (y[1] - y[0])) / area
            _widen(low, high, z[0] + v * (z[1] - z[0]) + w * (z[2] - z[0]), (v >= 0) & (w >= 0) & (v + w <= 1))
    met = low <= high
    # On slivers the divisions may leave the triangle's own heights by rounding.
    low, high = np.maximum(low, z.min(axis=0))[met], np.minimum(high, z.max(axis=0))[met]
    return (cell[:, 0] * shape[1] + cell[:, 1])[met], low, high, face[met]


def _widen(low: np.ndarray, high: np.ndarray, z: np.ndarray, valid: np.ndarray) -> None:
    """Takes valid heights [P] or [3, P] into the bounds [P]."""
    down, up = np.where(valid, z, np.inf), np.where(valid, z, -np.inf)
    np.minimum(low, down if z.ndim == 1 else down.min(axis=0), out=low)
    np.maximum(high, up if z.ndim == 1 else up.max(axis=0), out=high)


def _merge(column: np.ndarray, bottom: np.ndarray, top: np.ndarray, flat: np.ndarray, merge_m: float) -> tuple:
    """Joins what overlaps within a column."""
    order = np.lexsort((bottom, column))
    column, bottom, top, flat = column[order], bottom[order], top[order], flat[order]
    fresh = np.r_[True, column[1:] != column[:-1]]
    # The highest top so far in the column: columns are lifted apart so that one running maximum serves all.
    lift = np.cumsum(fresh) * (top.max() - bottom.min() + 1.0)
    reached = np.maximum.accumulate(top + lift) - lift
    starts = np.flatnonzero(fresh | np.r_[True, bottom[1:] > reached[:-1] + _TOUCH_M])
    highest = np.maximum.reduceat(top, starts)
    flat_top = np.maximum.reduceat(np.where(flat, top, -np.inf), starts)
    return column[starts], bottom[starts], highest, flat_top >= highest - merge_m
