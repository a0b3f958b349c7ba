"""Lets ``python -m mmduet`` stand for the ``mmduet`` command; it knows nothing else."""

from mmduet.cli.main import main

if __name__ == "__main__":
    main()
