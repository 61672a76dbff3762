"""Training of plane classifiers with torch."""
