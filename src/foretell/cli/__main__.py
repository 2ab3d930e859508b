"""`python -m foretell.cli`, where the script is not on the path."""

from __future__ import annotations

from foretell.cli import main

main()
