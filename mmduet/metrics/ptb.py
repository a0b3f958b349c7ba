"""The tokens that caption metrics see: Stanford's PTBTokenizer 3.4.1, lower-cased, without punctuation."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from mmduet.errors import OptionError
from mmduet.evaluation.java import jar, java_command, java_environment

# What pycocoevalcap drops. Words are lower-cased before, so a parenthesis is -lrb- by then, and stays.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
# Everything that the tokeniser takes for the end of a line; the original replaces \n alone and loses step at the others.
LINE_ENDS = re.compile("[\n\r\v\f\u2028\u2029]")


def tokenise(captions: Sequence[str]) -> list[str]:
    """Each caption as its tokens with one space between them.

    One process for all of them: it takes .3 s to start. A caption without words becomes the empty string.
    """
    if not captions:
        return []
    lines = _run_tokeniser("".join(LINE_ENDS.sub(" ", caption) + "\n" for caption in captions)).split("\n")
    if len(lines) != len(captions) + 1:
        raise OptionError(f"the PTB tokeniser made {len(lines) - 1} lines of {len(captions)} captions; report this")
    return [" ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATION) for line in lines[:-1]]


def _run_tokeniser(text: str) -> str:
    tokenizer = jar("tokenizer", "stanford-corenlp-3.4.1.jar")
    flags = ("-preserveLines", "-lowerCase")
    run = subprocess.run(
        java_command("-cp", str(tokenizer), "edu.stanford.nlp.process.PTBTokenizer", *flags),
        input=text.encode("utf-8", "replace"),  # half a surrogate pair, as JSON may hold it, has no bytes
        capture_output=True,
        env=java_environment(),
        check=False,
    )
    if run.returncode:
        raise OptionError(f"Java could not run the PTB tokeniser: {run.stderr.decode(errors='replace')[-500:]}")
    return run.stdout.decode("utf-8")
