"""A stage that runs an earlier one again, on other inputs."""
