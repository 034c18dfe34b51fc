"""``python -m cyhorn``."""

from cyhorn.cli import main

main()
