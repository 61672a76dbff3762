"""Energy: how a machine's joules are shared out, and what they come to."""
