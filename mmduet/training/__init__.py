"""The general training recipe: sequences, batches, losses, optimizer and trainer."""
