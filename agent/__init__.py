"""A mind without a mouth: conversation, turn loop, tools and models, usable alone as a library."""
