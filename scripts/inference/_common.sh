# What the benchmark scripts share: sourced by them, with NAME (the benchmark), SET (its test set, under DATA), ASKED (what is
# predicted, where that is another file and there) and, for models other than nano, PAPER (the published options).
#   DATA=datasets/scenes-test-20 MODEL=nano OUT=outputs/NAME/MODEL-DATA OPTIONS="..." PROFILE=fixed COUNT=20
# By default they run on the scenes counterpart of the benchmark, which is rendered first. Interrupted, the same command goes on.
# Where videos are missing or broken they go on with what is there, tell what is not, and end with status 1.
set -euo pipefail

here="$PWD"
absolute() { # PATH, as it is meant where the script was called
	case "$1" in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$here" "$1" ;; esac
}

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
COUNT="${COUNT:-20}"
if [ -n "${DATA:-}" ]; then DATA="$(absolute "$DATA")"; else DATA="$PWD/datasets/scenes-test-$COUNT" scenes=1; fi
MODEL="${MODEL:-nano}"
[ ! -e "$here/$MODEL" ] || MODEL="$(absolute "$MODEL")"
if [ -n "${OUT:-}" ]; then OUT="$(absolute "$OUT")"; else OUT="$PWD/outputs/$NAME/$(basename "$MODEL")-$(basename "$DATA")"; fi
PROFILE="${PROFILE:-fixed}"
mmduet=.venv/bin/mmduet
status=0

[ -x "$mmduet" ] || make --silent setup
if [ "$MODEL" = nano ]; then OPTIONS="${OPTIONS:-}"; else OPTIONS="${OPTIONS:-$PAPER}"; fi
if [ -n "${scenes:-}" ]; then
	"$mmduet" scenes make "$DATA" --split test --count "$COUNT" --seed 11
fi

may_fail_in_part() { # COMMAND: status 1 says that some could not be done, and is kept; any other ends the script
	local found=0
	"$@" || found=$?
	if [ "$found" -gt 1 ]; then exit "$found"; fi
	if [ "$found" = 1 ]; then status=1; fi
}

predict() { # FURTHER OPTIONS...
	local asked="$SET"
	if [ -n "${ASKED:-}" ] && [ -e "$DATA/$ASKED" ]; then asked="$ASKED"; fi
	mkdir -p "$OUT"
	[ -n "${scenes:-}" ] || may_fail_in_part "$mmduet" data check "$NAME" --dir "$DATA"
	# shellcheck disable=SC2086 # OPTIONS are several words
	may_fail_in_part "$mmduet" predict --annotations "$DATA/$asked" --videos "$DATA/videos" \
		--output "$OUT/predictions.jsonl" --model "$MODEL" --profile "$PROFILE" $OPTIONS "$@"
	[ -s "$OUT/predictions.jsonl" ] || { echo "$NAME: nothing was predicted, so there is nothing to evaluate" >&2; exit 1; }
}

evaluate() { # BENCHMARK, FURTHER OPTIONS...
	"$mmduet" evaluate "$1" --predictions "$OUT/predictions.jsonl" --annotations "$DATA/$SET" --profile "$PROFILE" \
		--json "$OUT/report.json" --html "$OUT/report.html" --videos "$DATA/videos" --per-item "${@:2}"
	exit "$status"
}
