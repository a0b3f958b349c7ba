#!/usr/bin/env bash
# Train the bundled checkpoint from scratch: render the clips, then train vocabulary, vision tower and duet model.
# Takes about an hour and a half on two CPU cores. It can be interrupted at any time; the same command resumes it.
#   scripts/train_nano.sh [OUT] [WORK]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out="${1:-mmduet/nano/checkpoint}"
work="${2:-outputs/nano}"
make --silent setup
exec .venv/bin/mmduet train nano "$out" --work "$work"
