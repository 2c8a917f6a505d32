"""Muon (Jordan et al. 2024)."""
