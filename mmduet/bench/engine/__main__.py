"""Run ``python -m mmduet.bench.engine``: what ``mmduet bench engine`` measures, without the packages of that command."""

from __future__ import annotations

import sys

from mmduet.bench.engine.arguments import main

if __name__ == "__main__":
    sys.exit(main())
