"""The machine of the tests: one thread of a CPU, in full precision."""

from agents.run.machine import MachineFacts

CPU = MachineFacts("cpu", threads=1, bf16=False)
