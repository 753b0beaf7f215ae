"""What people look at: figures, gallery, sheets, pages, cards."""
