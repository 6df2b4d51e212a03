"""What a run said: raw files to records, in one order, the same in every pass."""
