"""How data sets are laid out, one module a layout: the pictures, and what labels them."""
