#!/usr/bin/env bash
# Makes the bundled checkpoint from nothing: renders its own clips, trains its own vocabulary, tower and duet.
# About an hour and a half on two CPU cores. Interrupt it at will: the same command goes on where it was.
#   scripts/train_nano.sh [OUT] [WORK]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out="${1:-mmduet/nano/checkpoint}"
work="${2:-outputs/nano}"
make --silent setup
exec .venv/bin/mmduet train nano "$out" --work "$work"
