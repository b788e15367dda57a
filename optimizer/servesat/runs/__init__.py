"""Many questions at once: `batch` solves folders of specs, `provenance` digests the files that each one read."""
