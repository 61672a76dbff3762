"""What several tests need: a whole system of their own, senders, and an account of what became of instances."""
