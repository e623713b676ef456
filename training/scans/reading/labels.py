"""Which annotated names become categories: ScanNet's, ScanNet++'s and ARKitScenes', as VSI-Bench and as published.

The lists are facts of the published pipeline; what it does not apply of them is a switch of the readers.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

# ScanNet's 20-class names by the NYU40 numbers its label map gives; desks are tables in VSI-Bench
SCANNET_NYU40 = {
    4: "bed",
    5: "chair",
    6: "sofa",
    7: "table",
    9: "window",
    10: "bookshelf",
    12: "counter",
    14: "desk",
    24: "refrigerator",
}
SCANNET_20 = tuple(SCANNET_NYU40.values())
SCANNET_200 = (
    "pillow",
    "monitor",
    "door",
    "lamp",
    "printer",
    "towel",
    "tv",
    "nightstand",
    "plant",
    "keyboard",
    "backpack",
    "trash bin",
    "trash can",
    "recycling bin",
    "closet",
    "microwave",
    "fan",
    "washing machine",
    "mirror",
    "piano",
    "radiator",
    "telephone",
    "clock",
    "guitar",
    "bicycle",
    "oven",
    "mouse",
)
SCANNET_RENAMED = {"trash can": "trash bin", "recycling bin": "trash bin", "mouse": "computer mouse"}
SCANNET_TABLES = {"desk": "table"}
# listed twice in the published names, so that each of its boxes comes twice
SCANNET_DOUBLED = "printer"

SCANNETPP = tuple(
    "table,door,ceiling lamp,cabinet,blinds,curtain,chair,storage cabinet,office chair,bookshelf,whiteboard,window,"
    "box,monitor,shelf,heater,kitchen cabinet,sofa,bed,trash can,book,plant,blanket,tv,computer tower,refrigerator,"
    "jacket,sink,bag,picture,pillow,towel,suitcase,backpack,crate,keyboard,rack,toilet,printer,poster,painting,"
    "microwave,shoes,socket,bottle,bucket,cushion,basket,shoe rack,telephone,file folder,laptop,plant pot,"
    "exhaust fan,cup,coat hanger,light switch,speaker,table lamp,kettle,smoke detector,container,power strip,"
    "slippers,paper bag,mouse,cutting board,toilet paper,paper towel,pot,clock,pan,tap,jar,soap dispenser,binder,"
    "bowl,tissue box,whiteboard eraser,toilet brush,spray bottle,headphones,stapler,marker".split(",")
)
SCANNETPP_EXCLUDED = frozenset(
    "binder,poster,blinds,curtain,window,backpack,bag,book,bottle,box,container,jacket,jar,light switch,marker,"
    "painting,paper towel,plant pot,pot,shelf,sink,smoke detector,soap dispenser,socket,speaker,spray bottle,tap,"
    "tissue box,toilet brush,toilet paper,towel,whiteboard eraser,cabinet,kitchen cabinet,storage cabinet".split(",")
)
SCANNETPP_RENAMED = {"office chair": "chair", "ceiling lamp": "ceiling light", "mouse": "computer mouse"}

# the 17 names of 3DOD; VSI-Bench's 144 scenes have 13 of them, with tv for tv_monitor
ARKIT = tuple(
    "bathtub,bed,cabinet,chair,dishwasher,fireplace,oven,refrigerator,shelf,sink,sofa,stool,stove,table,toilet,"
    "tv_monitor,washer".split(",")
)
ARKIT_EXCLUDED = frozenset({"cabinet", "oven", "shelf", "sink"})
ARKIT_RENAMED = {"tv_monitor": "tv"}


def read_label_map(path: Path) -> dict[str, int]:
    """ScanNet's label map: the NYU40 number of each annotated name, 0 where it has none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it lacks a column, or has a line that is not like its header.
    """
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        lacking = {"raw_category", "nyu40id"} - set(rows.fieldnames or ())
        if lacking:
            raise ValueError(f"{path.name} has no column {' and '.join(sorted(lacking))}; give ScanNet's v2 label map")
        try:
            return {row["raw_category"].strip(): int(row["nyu40id"] or 0) for row in rows}
        except (ValueError, AttributeError):
            raise ValueError(f"{path.name}: line {rows.line_num} is not like the header") from None


def scannet_category(label: str, nyu40: Mapping[str, int], *, raw_names: bool = False) -> str | None:
    """The category of a ScanNet label, None where it is not one of those asked about.

    Args:
        label: as annotated.
        nyu40: read_label_map.
        raw_names: the published defect: only names that are spelled like a class count, so that most sofas, which
            ScanNet calls couches, are lost, and desks stay desks.

    Raises:
        KeyError: the label map does not have the label.
    """
    number = nyu40[label]
    name = label if label in SCANNET_200 else None
    if raw_names:
        name = label if label in SCANNET_20 else name
    else:
        name = name or SCANNET_NYU40.get(number)
        name = SCANNET_TABLES.get(name, name)
    return SCANNET_RENAMED.get(name, name)


def listed_category(
    label: str, names: tuple[str, ...], excluded: frozenset[str], renamed: Mapping[str, str], *, as_listed: bool
) -> str | None:
    """The category of a label out of a list of names, None where it is not one of those asked about.

    Args:
        label: as annotated.
        names: known ones; excluded of them are not asked about; renamed have another name in questions.
        as_listed: the published defect: nothing is excluded or renamed.
    """
    if label not in names:
        return None
    if as_listed:
        return label
    return None if label in excluded else renamed.get(label, label)
