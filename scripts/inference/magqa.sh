#!/usr/bin/env bash
# Multi-answer grounded questions (MAGQA): every answer, when it is due. Predicts and evaluates.
# Answers about scenes are judged by their words; others need a judge, JUDGE=https://host/v1 JUDGE_MODEL=name (and its key in
# MMDUET_JUDGE_KEY), or replies that were given before, JUDGEMENTS=FILE.
NAME=magqa SET=magqa_test.json
PAPER="--fps 2 --max-frames 400 --speak threshold:0.5 --score-heads informative,relevance"
source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
if [ -n "${JUDGEMENTS:-}" ]; then
	judge=(--judgements "$(absolute "$JUDGEMENTS")")
elif [ -n "${JUDGE:-}" ]; then
	judge=(--judge "$JUDGE")
	[ "$JUDGE" = exact ] || judge+=(--judge-model "${JUDGE_MODEL:?name the model of the judge}")
elif [ -n "${scenes:-}" ]; then
	judge=(--judge exact)
else
	echo "magqa.sh: people's words cannot be compared letter by letter; set JUDGE and JUDGE_MODEL, or JUDGEMENTS" >&2
	exit 2
fi
predict
evaluate magqa "${judge[@]}"
