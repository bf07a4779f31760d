"""Runcast puts any Python AI agent live in front of people, and never loses a run."""
