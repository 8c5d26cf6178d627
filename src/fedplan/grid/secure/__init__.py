"""Secure rounds on a grid: what workers send in each stage, what they are sent, and how a stage ends.

The protocol is `fedplan.federation.secure`; here it gets a store, deadlines and calls.
"""
