"""The bundle for real images: a frozen SonoNet-16 with small heads, fitted on the few images at hand."""
