"""What auditors and custodians type: the bucket read, proved, exported; people's keys; what a day adds up to."""
