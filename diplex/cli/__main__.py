"""``python -m diplex.cli`` is ``diplex``."""

from diplex.cli import main

main()
