"""One grid in several processes behind one port: the parent that watches them, and what each of them does."""
