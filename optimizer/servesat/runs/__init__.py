"""Runs over many specs: `batch` solves them, `provenance` digests the files that each of them names."""
