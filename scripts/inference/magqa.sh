#!/usr/bin/env bash
# Multi-answer grounded questions (MAGQA): every answer, when it is due. Predicts and evaluates.
# Answers about scenes are judged by their words; others need a judge: JUDGE=https://host/v1 JUDGE_MODEL=name (MMDUET_JUDGE_KEY).
NAME=magqa SET=magqa_test.json
PAPER="--fps 2 --max-frames 400 --speak threshold:0.5 --score-heads informative,relevance"
source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
predict
if [ -n "${JUDGE:-}" ]; then
	evaluate magqa --judge "$JUDGE" --judge-model "${JUDGE_MODEL:?name the judge\'s model}"
else
	[ -e "$DATA/.scenes" ] || { echo "magqa.sh: set JUDGE and JUDGE_MODEL: people's words cannot be compared letter by letter" >&2; exit 2; }
	evaluate magqa --judge exact
fi
