"""Launch the live page with the sample clips of this directory: ``python -m demo.app``, with the options of ``mmduet demo``."""

from __future__ import annotations

import sys
from pathlib import Path

from mmduet.cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["demo", "--clips", str(Path(__file__).parent / "clips")]
    main()
