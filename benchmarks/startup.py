"""How long the interpreter takes to be of use: `import foretell` beside others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from benchmarks.figures import Figure, Settings, in_fresh_process, repeated

TITLE = "start of a fresh interpreter, wall time"
GOAL_IMPORT_S, GOAL_HELP_S = 0.3, 0.2
_HELP = "import sys; sys.argv = ['foretell', '--help']; from foretell.cli import main; main()"


def measure(settings: Settings) -> Iterator[Figure]:
    """Seconds until the interpreter has ended, taken in turns."""
    programs = {
        "python -c pass": "pass",
        "import numpy": "import numpy",
        "import optuna": "import optuna",
        "import foretell": "import foretell",
        "import foretell, and all it exports": "from foretell import *",
        "foretell --help": _HELP,
    }
    for program in programs.values():
        in_fresh_process("-c", program)  # from here on the files are in the disk cache
    measures = [partial(_seconds, program) for program in programs.values()]
    taken = dict(zip(programs, repeated(1 if settings.quick else 7, *measures), strict=True))
    optuna = taken["import optuna"]
    yield Figure("python -c pass", "s", taken["python -c pass"])
    yield Figure("import numpy", "s", taken["import numpy"])
    yield Figure("import foretell", "s", taken["import foretell"], optuna, goal=GOAL_IMPORT_S)
    everything = "import foretell, and all it exports"
    yield Figure(everything, "s", taken[everything], optuna)
    yield Figure("foretell --help", "s", taken["foretell --help"], goal=GOAL_HELP_S)


def _seconds(program: str) -> float:
    begun = time.monotonic()
    in_fresh_process("-c", program)
    return time.monotonic() - begun
