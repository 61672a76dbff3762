"""What a scanner has drawn over the tissue: colour Doppler and graphics, found and taken away."""
