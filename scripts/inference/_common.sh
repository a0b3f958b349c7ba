# What the benchmark scripts share: sourced by them, with NAME (the benchmark), SET (its test set, under DATA) and, for models
# other than nano, PAPER (the published options).
#   DATA=datasets/scenes MODEL=nano OUT=outputs/NAME OPTIONS="..." PROFILE=fixed
# By default they run on the scenes counterpart of the benchmark, which is rendered first. Interrupted, the same command goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
DATA="${DATA:-datasets/scenes}"
MODEL="${MODEL:-nano}"
OUT="${OUT:-outputs/$NAME}"
PROFILE="${PROFILE:-fixed}"
mmduet=.venv/bin/mmduet

[ -x "$mmduet" ] || make --silent setup
if [ "$MODEL" = nano ]; then OPTIONS="${OPTIONS:-}"; else OPTIONS="${OPTIONS:-$PAPER}"; fi
if [ "$DATA" = datasets/scenes ] || [ -e "$DATA/.scenes" ]; then
	"$mmduet" scenes make "$DATA" --split test --count "${COUNT:-20}" --seed 11
	touch "$DATA/.scenes"
else
	"$mmduet" data check "$NAME" --dir "$DATA"
fi
mkdir -p "$OUT"

predict() { # FURTHER OPTIONS...
	# shellcheck disable=SC2086 # OPTIONS are several words
	"$mmduet" predict --annotations "$DATA/$SET" --videos "$DATA/videos" --output "$OUT/predictions.jsonl" \
		--model "$MODEL" --profile "$PROFILE" $OPTIONS "$@"
}

evaluate() { # BENCHMARK, FURTHER OPTIONS...
	"$mmduet" evaluate "$1" --predictions "$OUT/predictions.jsonl" --annotations "$DATA/$SET" --profile "$PROFILE" \
		--json "$OUT/report.json" --html "$OUT/report.html" --videos "$DATA/videos" --per-item "${@:2}"
}
