"""Forward passes for inference over the weights of Transformers modules: the same results with fewer operations."""
