#!/usr/bin/env bash
# Train a model with a recipe: sets up the environment, then runs `mmduet train` with the same arguments.
#   scripts/train.sh RECIPE --output DIR [--resume] [--device DEVICE] [--set KEY=VALUE ...]
# Paths count from the directory that the script is called from. With NPROC=N, N processes train together: each has a GPU of
# its own, or they share the cores with --device cpu.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bin="$root/.venv/bin"
[ -x "$bin/mmduet" ] || make --silent -C "$root" setup
if [ "${NPROC:-1}" -gt 1 ]; then
	exec "$bin/torchrun" --standalone --nproc-per-node "$NPROC" -m mmduet train "$@"
fi
exec "$bin/mmduet" train "$@"
