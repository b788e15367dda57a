"""What people and programs read: JSON, tables and bars."""
