#!/usr/bin/env bash
# Dense captioning (YouCook2): predict and evaluate captioned time spans.
NAME=youcook2 SET=dense_captioning_test.json
PAPER="--fps 0.5 --max-frames 200 --speak sum:2"
source "$(dirname "${BASH_SOURCE[0]}")/_common.sh"
predict
evaluate dense-captioning
