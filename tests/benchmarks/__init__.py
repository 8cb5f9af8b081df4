"""`python -m tests.benchmarks`: what Cocoon costs, beside the bare floor of the same work, measured in the same run."""
