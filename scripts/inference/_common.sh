# Shared code of the benchmark scripts, which source this file. They set NAME (the benchmark), SET (its test set, under DATA),
# PROMPTED_SET (an optional test set with prompts, predicted instead if it exists) and PAPER (the published options, for models
# other than nano). Variables, with their defaults:
#   DATA=datasets/scenes-test-20 MODEL=nano OUT=outputs/NAME/MODEL-DATA OPTIONS="..." PROFILE=fixed COUNT=20
# By default a script renders and uses the scenes counterpart of the benchmark. An interrupted run is resumed by the same command.
# Missing and unreadable videos are reported and skipped; the script then exits with status 1.
set -euo pipefail

here="$PWD"
absolute() { # PATH, relative to the directory that the script was called from
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

allow_partial_failure() { # COMMAND: status 1 (some items failed) is kept for the end; any other failure ends the script
	local code=0
	"$@" || code=$?
	if [ "$code" -gt 1 ]; then exit "$code"; fi
	if [ "$code" = 1 ]; then status=1; fi
}

predict() { # FURTHER OPTIONS...
	local set="$SET"
	if [ -n "${PROMPTED_SET:-}" ] && [ -e "$DATA/$PROMPTED_SET" ]; then set="$PROMPTED_SET"; fi
	mkdir -p "$OUT"
	[ -n "${scenes:-}" ] || allow_partial_failure "$mmduet" data check "$NAME" --dir "$DATA"
	# shellcheck disable=SC2086 # OPTIONS is split into words
	allow_partial_failure "$mmduet" predict --annotations "$DATA/$set" --videos "$DATA/videos" \
		--output "$OUT/predictions.jsonl" --model "$MODEL" --profile "$PROFILE" $OPTIONS "$@"
	[ -s "$OUT/predictions.jsonl" ] || { echo "$NAME: there are no predictions to evaluate" >&2; exit 1; }
}

evaluate() { # BENCHMARK, FURTHER OPTIONS...
	"$mmduet" evaluate "$1" --predictions "$OUT/predictions.jsonl" --annotations "$DATA/$SET" --profile "$PROFILE" \
		--json "$OUT/report.json" --html "$OUT/report.html" --videos "$DATA/videos" --per-item "${@:2}"
	exit "$status"
}
