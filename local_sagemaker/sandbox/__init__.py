"""Where a job runs: its process group, cores, environment and interpreter."""
