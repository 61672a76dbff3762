"""What models are learned from and judged by: data manifests, splits, metrics, comparison and gates. No torch here."""
