"""`python -m ganaug`, the same as the command `ganaug`."""

from .cli import main

main(prog_name="ganaug")
