#!/usr/bin/env bash
# Highlight detection (QVHighlights): which clips matter to the query. Predicts and evaluates.
# The paper's model is asked in the words of MMDuet's test file, where that lies there; else in an instruction of ours.
NAME=qvh SET=highlights.jsonl ASKED=highlight_val-random_prompt.json
PAPER="--fps 1 --max-frames 400 --speak never"
source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
predict
evaluate qvhighlights
