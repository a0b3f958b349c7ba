"""Launch the live page: ``python -m demo.app``, with the options of ``mmduet demo``. Its sample clips lie in ``demo/clips``."""

from __future__ import annotations

import sys

from mmduet.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "demo")
    main()
