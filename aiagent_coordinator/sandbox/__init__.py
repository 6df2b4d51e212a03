"""What a run's CLI may reach: the choice of a sandbox, its grants, and how it is made and probed.

`policy` says which sandbox a run gets, `grants` what it leaves open, `plan` how that is written for
the launcher that goes between shim and CLI (`wire/confine.py`), `probe` whether this machine can.
"""
