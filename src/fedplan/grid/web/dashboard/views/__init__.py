"""What pages show, as plain data: texts, numbers, lists and dicts, which templates only put in place."""
