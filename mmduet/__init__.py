"""mmduet: a VideoLLM that watches a stream frame by frame and knows when to speak."""

__version__ = "0.1.0"
