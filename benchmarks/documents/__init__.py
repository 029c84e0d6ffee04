"""Documents written from results: tables, course outputs, gallery."""
