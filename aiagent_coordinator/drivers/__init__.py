"""Programs that a run executes in place of its CLI, to drive that in its live mode.

Each is the command of its run's shim: it starts the CLI, gives it the prompt, and passes on what people
say while it works. It reads words on its standard input and writes what the CLI says on its standard
output; of coordinator and server it knows no more than the CLI does.
"""
