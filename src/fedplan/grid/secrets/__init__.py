"""What nobody else may read: secrets in the database, and files."""
