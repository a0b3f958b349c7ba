r"""Compare what two checkouts compute: run the same commands in both and compare every file that they write.

A redesign must not change results. Give the old and the new checkout, and optionally a folder with evaluator files:

    python scripts/compare_checkouts.py /path/to/old . --evaluators ../shared/evaluators

Numbers must agree to 1e-6, everything else exactly. Exit status 1 if anything differs. Texts that were reworded on purpose can
be left out by their place, for example the notes and problems of evaluation reports, and the model's fingerprint, which changes
with the time of its files:

    --ignore '\.notes|\.problems\[\d+\]\.(what|counted)|settings\.json\.model'
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOLERANCE = 1e-6
VIDEO = "clips/videos/00000.mp4"
VIDEOS = " ".join(f"clips/videos/{number:05}.mp4" for number in range(3))
RUNS = {
    "default": "",
    "query": "--query 'Tell me when something enters.' --scores",
    "late-query": "--query 'What does the green cross do?@5'",
    "keep-replies": "--keep-replies --window 4",
    "context": "--context 'The square is called Bob.@3' --window 2s",
    "paper": "--profile paper --fps 2",
    "sum": "--speak sum:1 --min-interval 0",
    "both-heads": "--speak threshold:0.5 --score-heads informative,relevance",
    "sampled": "--temperature 0.7 --seed 3 --no-query",
}
TASKS = {
    "caption": "caption {videos} --subtitles {out}/caption.srt",
    "caption-paper": "caption {videos} --profile paper",
    "ground": "ground {videos} --query 'When is something red in view?' ",
    "ground-online": "ground {videos} --query 'When is something red in view?' --online",
    "ground-paper": "ground {videos} --query 'When is something red in view?' --profile paper",
    "highlight": "highlight {videos} --top 2",
    "highlight-query": "highlight {videos} --query 'something red' --top 3",
    "ask": "ask {videos} --query 'Tell me when something enters.' --subtitles {out}/ask.vtt",
}
BENCHMARKS = {
    "magqa": ("magqa_test.json", "--judge exact"),
    "grounding": ("grounding_test.json", ""),
    "qvhighlights": ("highlights.jsonl", ""),
    "dense-captioning": ("dense_captioning_test.json", ""),
}
EVALUATORS = {
    "yc2_timechat": ("dense-captioning", "yc2_timechat/preds.json", ["yc2_timechat/val.json"]),
    "yc2_jitter": ("dense-captioning", "yc2_jitter/preds.json", ["yc2_jitter/val.json"]),
    "yc2_jitter_missing": ("dense-captioning", "yc2_jitter_missing/preds.json", ["yc2_jitter_missing/val.json"]),
    "mmduet_raw": ("dense-captioning", "mmduet_raw/preds.jsonl", ["mmduet_raw/gold.json"]),
    "charades": ("grounding", "timechat_example_preds.json", ["charades_test_gt.json"]),
    "qvh_sample": ("qvhighlights", "sample_val_preds.jsonl", ["highlight_val_release.jsonl"]),
    "qvh_timechat": ("qvhighlights", "timechat_val_preds.jsonl", ["highlight_val_release.jsonl"]),
    "ovo_gemini": ("ovo", "results_Gemini.json", []),
    "ovo_gpt": ("ovo", "results_GPT.json", []),
    "ovo_longvu": ("ovo", "results_LongVU.json", []),
    "ovo_flashvstream": ("ovo", "results_FlashVStream.json", []),
}
FOLDERS = {
    "dense-captioning": "dense_captioning",
    "grounding": "temporal_grounding",
    "qvhighlights": "qvhighlights",
    "ovo": "ovo_bench",
}
DENSEVID = {
    "yc2_jitter_densevid": ("yc2_jitter/preds_densevid.json", ["yc2_jitter/gt_densevid.json"]),
    "anet_jitter": ("anet_jitter/preds_densevid.json", ["anet_jitter/val_1.json", "anet_jitter/val_2.json"]),
}


def commands(evaluators: Path | None) -> Iterator[tuple[str, str]]:
    """Yield (name, command line after ``mmduet``); commands run in this order, ``{out}`` is their output folder."""
    for name, options in RUNS.items():
        yield f"run-{name}", f"run {VIDEO} --quiet --output {{out}}/run-{name}.jsonl {options}"
    for name, text in TASKS.items():
        yield name, f"{text.format(videos=VIDEOS, out='{out}')} --output {{out}}/{name}.json"
    for name, (test_set, judge) in BENCHMARKS.items():
        predicted = f"{{out}}/{name}.jsonl"
        yield f"predict-{name}", f"predict --annotations clips/{test_set} --videos clips/videos --output {predicted}"
        for profile in ("fixed", "paper"):
            report = f"{{out}}/{name}-{profile}.report.json"
            yield (
                f"evaluate-{name}-{profile}",
                f"evaluate {name} --predictions {predicted} --annotations clips/{test_set} --profile {profile}"
                f" --json {report} --per-item {judge}",
            )
    if evaluators is not None:
        yield from evaluator_commands(evaluators.resolve())


def evaluator_commands(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield a command per evaluator file and profile."""
    for name, (benchmark, predictions, gold) in EVALUATORS.items():
        for profile in ("fixed", "paper"):
            options = f"--profile {profile}" + (" --sample" if name == "charades" else "")
            yield evaluation(folder / FOLDERS[benchmark], f"{name}-{profile}", benchmark, predictions, gold, options)
    for name, (predictions, gold) in DENSEVID.items():
        for flavour in ("vid2seq", "densevid2018", "densevid2021", "vidchapters"):
            options = f"--flavour {flavour} --profile paper"
            base = folder / "dense_captioning"
            yield evaluation(base, f"{name}-{flavour}", "dense-captioning", predictions, gold, options)


def evaluation(
    base: Path, name: str, benchmark: str, predictions: str, gold: list[str], options: str
) -> tuple[str, str]:
    """Return one ``mmduet evaluate`` command that writes ``{out}/NAME.report.json``."""
    references = " ".join(f"--annotations {base / file}" for file in gold)
    return name, (
        f"evaluate {benchmark} --predictions {base / predictions} {references} {options} --per-item"
        f" --json {{out}}/{name}.report.json"
    )


def run(checkout: Path, folder: Path, command: str) -> tuple[int, str, str]:
    """Run ``mmduet COMMAND`` of a checkout in ``folder``; return its status, standard output and the end of its errors."""
    done = subprocess.run(
        f"{sys.executable} -m mmduet {command}", shell=True, cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr[-400:]


def values(path: Path) -> Any:
    """Return a file's content: parsed for JSON and JSON lines, else its text."""
    text = path.read_text(encoding="utf-8").replace(f'"{path.parent.name}/', '"')  # reports name their input files
    if path.suffix == ".json":
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else text


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Yield where two values differ: numbers by more than the tolerance, anything else at all."""
    if isinstance(old, float) and isinstance(new, float | int) and not isinstance(new, bool):
        if not (math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(old) and math.isnan(new))):
            yield f"{where}: {old} -> {new}"
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in old or key not in new:
                yield f"{where}.{key}: only in the {'old' if key in old else 'new'}"
            else:
                yield from differences(old[key], new[key], f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{where}[{place}]")
    elif old != new:
        yield f"{where}: {str(old)[:200]!r} -> {str(new)[:200]!r}"


def compare(command: str, checkouts: list[Path], folder: Path, ignore: re.Pattern[str] | None) -> list[str]:
    """Run one command in both checkouts; return what differs in status and written files, except at places in ``ignore``."""
    before = {label: set((folder / label).iterdir()) for label in ("old", "new")}
    results = [
        run(checkout, folder, command.replace("{out}", label))
        for checkout, label in zip(checkouts, before, strict=True)
    ]
    found = (
        [f"exit status {results[0][0]} -> {results[1][0]}: {results[1][2]}"] if results[0][0] != results[1][0] else []
    )
    if results[0][0] != 0:
        found.append(f"the old checkout exits with {results[0][0]}: {results[0][2]}")
    written = [{path.name for path in set((folder / label).iterdir()) - files} for label, files in before.items()]
    found += [f"{file}: written by one checkout only" for file in sorted(written[0] ^ written[1])]
    for file in sorted(written[0] & written[1]):
        if not file.startswith("."):
            found += [f"{file}{at}" for at in differences(values(folder / "old" / file), values(folder / "new" / file))]
    return [text for text in found if ignore is None or not ignore.search(text.split(": ")[0])]


def main() -> int:
    """Run all commands and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--evaluators", type=Path, help="folder with prediction and annotation files of published evaluators"
    )
    parser.add_argument("--ignore", type=re.compile, help="regular expression of places in files that may differ")
    parser.add_argument("--only", help="run only commands whose name contains this")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for label, checkout in (("old", options.old), ("new", options.new)):
            (folder / label).mkdir()
            status, _, errors = run(checkout, folder / label, "scenes make clips --split test --count 3 --seed 7")
            assert status == 0, errors
        found = same_clips(folder)
        print(f"{'DIFFERS' if found else 'equal'}  scenes make", *found, sep="\n    ", flush=True)
        failed += bool(found)
        (folder / "old" / "clips").rename(folder / "clips")
        for name, command in commands(options.evaluators):
            if options.only is None or options.only in name:
                found = compare(command, [options.old, options.new], folder, options.ignore)
                failed += bool(found)
                print(f"{'DIFFERS' if found else 'equal'}  {name}", *found[:8], sep="\n    ", flush=True)
    print(f"{failed} of the commands differ")
    return bool(failed)


def same_clips(folder: Path) -> list[str]:
    """Return which rendered files are not the same bytes."""
    files = sorted(path.relative_to(folder / "old") for path in (folder / "old").rglob("*") if path.is_file())
    return [
        f"{file}: other bytes"
        for file in files
        if (folder / "old" / file).read_bytes() != (folder / "new" / file).read_bytes()
    ]


if __name__ == "__main__":
    sys.exit(main())
