"""Tokenise captions for caption metrics: Stanford's PTBTokenizer 3.4.1, lower-cased, without punctuation."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from mmduet.errors import OptionError
from mmduet.evaluation.scorers.java import find_jar, java_command, java_environment

# Tokens that pycocoevalcap drops. Parentheses are kept, because they have been lower-cased to -lrb- before.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
# All characters that end a line for the tokeniser; the original replaces \n only and misaligns captions with the others.
LINE_ENDS = re.compile("[\n\r\v\f\u2028\u2029]")


def tokenize_captions(captions: Sequence[str]) -> list[str]:
    """Return each caption as its tokens, separated by single spaces.

    All captions are tokenised by one process, which takes 0.3 s to start. A caption without words becomes the empty string.
    """
    if not captions:
        return []
    lines = _run_tokenizer("".join(LINE_ENDS.sub(" ", caption) + "\n" for caption in captions)).split("\n")
    if len(lines) != len(captions) + 1:
        raise OptionError(
            f"the PTB tokeniser returned {len(lines) - 1} lines for {len(captions)} captions; please report this"
        )
    return [" ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATION) for line in lines[:-1]]


def _run_tokenizer(text: str) -> str:
    tokenizer = find_jar("tokenizer", "stanford-corenlp-3.4.1.jar")
    flags = ("-preserveLines", "-lowerCase")
    run = subprocess.run(
        java_command("-cp", str(tokenizer), "edu.stanford.nlp.process.PTBTokenizer", *flags),
        input=text.encode("utf-8", "replace"),  # unpaired surrogates, which JSON may contain, cannot be encoded
        capture_output=True,
        env=java_environment(),
        check=False,
    )
    if run.returncode:
        raise OptionError(f"the PTB tokeniser failed: {run.stderr.decode(errors='replace')[-500:]}")
    return run.stdout.decode("utf-8")
