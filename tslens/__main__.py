"""``python -m tslens``, and ``torchrun -m tslens``."""

from tslens.cli.main import run

run()
