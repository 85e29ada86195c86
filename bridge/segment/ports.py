"""The local port that each service knows a rig by, kept beside its segment over a restart of the worker.

The port is part of our identity: a service that says something to the worker before us, on the port of that one, waits
for a confirmation from there, and closes when none comes. The file is a hint, no more: one that is missing, old or
damaged costs nothing but new ports.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path


def place(segment: Path) -> Path:
    """Return the file that belongs to a segment's; no segment can have that name."""
    return segment.with_name(f'.{segment.name}.ports')


def is_place(path: Path) -> bool:
    """Tell whether a file is one of these."""
    return path.name.startswith('.') and path.suffix == '.ports'


def load(segment: Path) -> dict[str, int]:
    """Return the ports by service, {} if nothing is known."""
    try:
        found = json.loads(place(segment).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: port for name, port in found.items() if type(port) is int and 0 < port < 65536}


def save(segment: Path, ports: Mapping[str, int]) -> None:
    """Keep the ports; what the disk refuses is not kept."""
    whole, half = place(segment), place(segment).with_suffix('.new')
    try:
        half.write_text(json.dumps(dict(ports)))
        os.replace(half, whole)
    except OSError:  # on Windows also if somebody just reads it
        with contextlib.suppress(OSError):
            half.unlink()


def forget(segment: Path) -> None:
    """Remove the file."""
    with contextlib.suppress(OSError):
        place(segment).unlink()
