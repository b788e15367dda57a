"""Output for people and programs: text, tables, figures and JSON."""
