"""`python -m m2a`."""

from m2a.cli import main

main(prog_name="m2a")
