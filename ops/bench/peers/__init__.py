"""What a user would pick instead: minimal handlers of GET /v1/profiles/{id}, each reading the store by itself."""
