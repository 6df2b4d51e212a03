"""What a person types. Parsing and printing only; quick commands import nothing heavy."""
