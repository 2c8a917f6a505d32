"""Adapters: small maps that are trained beside a network whose own weights stay as they are."""
