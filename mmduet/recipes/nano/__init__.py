"""The recipe that trains nano on procedural scenes."""
