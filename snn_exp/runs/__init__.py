"""Runs on disk. No torch."""
