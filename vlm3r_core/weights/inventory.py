"""What lies in a model's files, part by part, from their headers alone. Loads nothing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlm3r_core.checkpoint.fill import PART_TITLES, survey
from vlm3r_core.checkpoint.published import Published
from vlm3r_core.checkpoint.saved import Saved, skeleton, stored_shapes
from vlm3r_core.checkpoint.tensor_files import Stored
from vlm3r_core.loading import open_spec

CUT3R_LICENCE = "CC BY-NC-SA 4.0, non-commercial (stated by its authors)"
_SAVED_PARTS = ("siglip", "cut3r", "fusion", "projector", "image_newline", "language")
_PART_OF_FILES = {"base": "base", "trained": "adapter", "lora": "adapter", "cut3r": "cut3r"}
_SHAPES_SHOWN = 3


@dataclass(frozen=True)
class PartRow:
    """One part of a model as it lies in files."""

    name: str
    found: int
    expected: int
    shapes: str
    dtypes: str
    nbytes: int
    licence: str

    @classmethod
    def of(cls, name: str, stored: list[Stored], expected: int, licence: str) -> PartRow:
        """Sums up the tensors of a part."""
        shapes = Counter(tensor.shape for tensor in stored).most_common()
        shown = [f"{count}x{'x'.join(map(str, shape)) or 'scalar'}" for shape, count in shapes[:_SHAPES_SHOWN]]
        more = [f"+{len(shapes) - _SHAPES_SHOWN} shapes"] if len(shapes) > _SHAPES_SHOWN else []
        dtypes = ", ".join(sorted({tensor.dtype for tensor in stored}))
        nbytes = sum(tensor.nbytes for tensor in stored)
        return cls(name, len(stored), expected, " ".join(shown + more), dtypes, nbytes, licence)


@dataclass(frozen=True)
class Inventory:
    """The parts, and a line for everything that is missing, unexpected or misshapen."""

    rows: list[PartRow] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """The parts as a table of text."""
        head = ("part", "tensors", "expected", "most frequent shapes", "dtype", "MB", "licence")
        cells = [
            (r.name, str(r.found), str(r.expected), r.shapes, r.dtypes, f"{r.nbytes / 1e6:,.1f}", r.licence)
            for r in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        lines = [
            " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, *cells)
        ]
        return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


def take_inventory(spec: str) -> Inventory:
    """Reads the headers of the files that a spec names; whatever is wrong with them becomes a line of its faults.

    Raises:
        FileNotFoundError: the spec names paths that do not exist.
        ValueError: unknown spec, or a preset.
    """
    source = open_spec(spec)
    if source is None:
        raise ValueError(f"{spec} is a preset without files; expected a folder or base=PATH,adapter=PATH,cut3r=PATH")
    try:
        return _of_published(source) if isinstance(source, Published) else _of_saved(source)
    except (FileNotFoundError, ValueError) as error:
        # settings that are missing, damaged or contradict each other: there is no model to hold tensors against
        return Inventory(faults=[str(error)])


def _of_published(published: Published) -> Inventory:
    """All parts with the first adapter, then those of each further one."""
    rows, faults = _with_one_adapter(published, tuple(PART_TITLES))
    for name, folder in published.named[1:]:
        more, wrong = _with_one_adapter(replace(published, adapter=folder), ("trained", "lora"))
        rows += [replace(row, name=f"{row.name} ({name})") for row in more]
        faults += [f"adapter {name}, {line}" if not line.startswith(" ") else line for line in wrong]
    if not published.tokenizer_path.is_file():
        faults.append(f"base model: no file {published.tokenizer_path}")
    return Inventory(rows, faults)


def _with_one_adapter(published: Published, names: tuple[str, ...]) -> tuple[list[PartRow], list[str]]:
    """Rows and faults of the named parts."""
    found = survey(skeleton(published.config()), published, compare_twins=False)
    rows, faults = [], []
    # a base alone has neither adapter nor CUT3R
    for name in (name for name in names if name in found.parts):
        part, owner = found.parts[name], _PART_OF_FILES[name]
        licence = folder_licence(owner, getattr(published, owner))
        rows.append(PartRow.of(PART_TITLES[name], list(part.stored.values()), len(part.expected), licence))
        faults += part.report()
    return rows, faults


def _of_saved(saved: Saved) -> Inventory:
    model = skeleton(saved.config())
    stored, faults = saved.tensors(model)
    expected = stored_shapes(model, saved.quantize, saved.description["dtype"])
    licences = "; ".join(f"{part}: {text}" for part, text in (saved.description.get("licences") or {}).items())
    rows = [
        PartRow.of(
            part,
            [tensor for key, tensor in stored.items() if key.split(".")[0] == part],
            sum(key.split(".")[0] == part for key in expected),
            CUT3R_LICENCE if part == "cut3r" and licences else "see LICENCES.md",
        )
        for part in _SAVED_PARTS
    ]
    missing = [] if saved.tokenizer_path.is_file() else [f"no file {saved.tokenizer_path}"]
    return Inventory(rows, faults + missing)


def folder_licence(part: str, path: Path) -> str:
    """What a folder's model card says of its licence."""
    if part == "cut3r":
        return CUT3R_LICENCE
    card = path / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    stated = re.search(r"\A---\s*\n(?:.*\n)*?license:\s*(\S+)", text)
    return stated[1] if stated else "not stated in the folder; see the model's page"
