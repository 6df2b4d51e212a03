"""What tests of the whole program share: a house to live in, and the programs run as a user would."""
