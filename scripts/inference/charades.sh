#!/usr/bin/env bash
# Temporal grounding (Charades-STA): when what the query says is to be seen. Predicts and evaluates.
NAME=charades SET=grounding_test.json
PAPER="--fps 2 --max-frames 400 --speak never"
source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
predict
evaluate grounding
