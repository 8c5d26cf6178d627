"""A Plan for many clients side by side: one run computes what each of them would compute alone.

| module | what it holds |
|---|---|
| `plan` | `over_clients`, `ClientsPlan`: which inputs each client has of its own; one run for all |
| `training` | `ClientsTraining`: runs again and again, parameters updated where they stand |
| `lifting` | from the graph of one client to the graph of many |
| `rules` | how each operation is computed for many, by name |
| `fusion` | what is quicker for many |
| `compiler` | all this, and straight-line code by `fedplan.plan.run.compiler` |
"""
