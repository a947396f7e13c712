"""Tools: the commands beside the loop."""
