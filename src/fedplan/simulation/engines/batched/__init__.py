"""The engine that computes clients side by side: one run of a Plan is a step of many clients.

| module | what it holds |
|---|---|
| `course` | what a client does with a Plan: its batches, drawn in advance |
| `program` | a Plan for clients side by side, with all that is the same for them in a cycle |
| `group` | clients that do their courses side by side |
| `lineup` | a client before it is computed: its state and its courses |
| `reporting` | what clients send, added up |
| `trial` | how long clients take, alone and side by side |
| `batched` | the engine: a cohort in groups |
"""
