#!/usr/bin/env bash
# Highlight detection (QVHighlights): predict and evaluate the relevance of each clip to the query.
# The prompts of MMDuet's test file are used if that file exists; otherwise mmduet's own prompt.
NAME=qvh SET=highlights.jsonl PROMPTED_SET=highlight_val-random_prompt.json
PAPER="--fps 1 --max-frames 400 --speak never"
source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
predict
evaluate qvhighlights
