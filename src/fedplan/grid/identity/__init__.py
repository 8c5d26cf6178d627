"""Who is who, and who may do what: owners, people and programs with tokens, workers."""
