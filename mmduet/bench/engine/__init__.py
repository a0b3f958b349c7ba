"""Measure the engine: speed, latency and memory for some numbers of streams, next to the reference engines and to the limit.

It needs PyTorch, Transformers, tokenizers, safetensors and NumPy only, so ``python -m mmduet.bench.engine`` runs on a machine
that has nothing else.
"""
