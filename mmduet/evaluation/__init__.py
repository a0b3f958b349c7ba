"""From predictions and annotations to numbers: pure metrics, and the runs that feed them."""
