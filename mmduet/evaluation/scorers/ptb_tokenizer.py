"""Tokenise captions for caption metrics: Stanford's PTBTokenizer 3.4.1, lower-cased, without punctuation."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from typing import Any

from mmduet.errors import OptionError
from mmduet.evaluation.scorers.java import end_group, find_jar, java_command, java_environment, start_group

# Tokens that pycocoevalcap drops. Parentheses are kept, because they have been lower-cased to -lrb- before.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
START_SECONDS, MIN_BYTES_PER_SECOND = 60.0, 10_000  # what even a slow, busy machine reaches
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
    command = java_command("-cp", str(tokenizer), "edu.stanford.nlp.process.PTBTokenizer", *flags)
    content = text.encode("utf-8", "replace")  # unpaired surrogates, which JSON may contain, cannot be encoded
    status, output, message = _run(command, content)
    if status < 0:  # something else ended it, such as a system without memory
        status, output, message = _run(command, content)
    if status:
        reason = (
            f"it was ended by signal {-status}" if status < 0 else message[-500:].strip() or f"exit status {status}"
        )
        raise OptionError(f"the PTB tokeniser failed: {reason}; check that Java has enough memory")
    return output


def _run(command: list[str], content: bytes) -> tuple[int, str, str]:
    """Return exit status, output and error output. Raises ``OptionError`` if the program does not end in time."""
    seconds = START_SECONDS + len(content) / MIN_BYTES_PER_SECOND
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start_group(command, env=java_environment(), **pipes)
    try:
        output, message = process.communicate(content, seconds)
    except subprocess.TimeoutExpired:
        raise OptionError(f"the PTB tokeniser did not end within {seconds:.0f} s; check that Java works") from None
    finally:
        end_group(process)
    return process.returncode, output.decode("utf-8", "replace"), message.decode(errors="replace")
