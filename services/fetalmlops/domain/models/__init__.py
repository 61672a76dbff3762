"""Model bundles, engines, calibration and the decision rule."""
