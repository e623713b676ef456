"""Scans on disk and simulated ones as scenes with their videos: a reader for each collection, all with one interface.

A reader is a module with two functions:

    recognizes(root: str) -> bool
        Whether a root looks like this collection. Quick, reads no scan, never raises.
    read_scans(root: str, ...) -> Iterator[Scan]
        Every scan under the root in a stable order, each unopened; further arguments have defaults.

Listing is cheap and never stops at a damaged scan: what is known to be wrong by then is in Scan.skipped. Opening is
where the work is; it happens in any process, in any order, and gives the same Content every time. A new reader is named
in training/qa/readers.py.
"""

from training.scans.scan import Content, Scan

__all__ = ["Content", "Scan"]
