#!/usr/bin/env bash
# Multi-answer grounded questions (MAGQA): predict and evaluate all answers to each question, each in its time span.
# Answers about scenes are compared literally. Others need a judge, JUDGE=https://host/v1 JUDGE_MODEL=name (with its API key in
# MMDUET_JUDGE_KEY), or a file with a judge's replies, JUDGEMENTS=FILE.
NAME=magqa SET=magqa_test.json
PAPER="--fps 2 --max-frames 400 --speak threshold:0.5 --score-heads informative,relevance"
source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
if [ -n "${JUDGEMENTS:-}" ]; then
	judge=(--judgements "$(absolute "$JUDGEMENTS")")
elif [ -n "${JUDGE:-}" ]; then
	judge=(--judge "$JUDGE")
	[ "$JUDGE" = exact ] || judge+=(--judge-model "${JUDGE_MODEL:?set JUDGE_MODEL to the model of the judge}")
elif [ -n "${scenes:-}" ]; then
	judge=(--judge exact)
else
	echo "magqa.sh: free-form answers need a judge; set JUDGE and JUDGE_MODEL, or JUDGEMENTS" >&2
	exit 2
fi
predict
evaluate magqa "${judge[@]}"
