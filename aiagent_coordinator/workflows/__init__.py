"""What an agent is told next: pure, state in, instruction out."""
