#!/usr/bin/env bash
# Highlight detection (QVHighlights): which clips matter to the query. Predicts and evaluates.
NAME=qvh SET=highlights.jsonl
PAPER="--fps 1 --max-frames 400 --speak never"
source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
predict
evaluate qvhighlights
