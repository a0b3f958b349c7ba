#!/usr/bin/env bash
# Temporal grounding (Charades-STA): predict and evaluate the time span that matches each query.
NAME=charades SET=grounding_test.json
PAPER="--fps 2 --max-frames 400 --speak never"
source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
predict
evaluate grounding
