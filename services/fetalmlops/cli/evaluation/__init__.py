"""What `fetalmlops evaluate` and `fetalmlops compare` have in common: runs, reports, plots and pages."""
