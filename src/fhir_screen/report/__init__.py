"""What people read: tables, notes, pages and lines of JSON, made from what the core already said."""
