"""Plans as text that starts them: command lines and manifests, one module a target."""
