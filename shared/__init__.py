"""What API, worker and keeper agree on."""
