"""Fresh draws: organisms that descend from nobody."""
