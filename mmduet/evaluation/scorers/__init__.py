"""Scorers that run external programs or models: METEOR and the PTB tokenizer in Java, sentence similarity."""
