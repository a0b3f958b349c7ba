"""From annotated timelines to weights: samples, layouts, losses, a trainer, nano's recipe."""
