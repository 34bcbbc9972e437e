"""How good are these pictures, how varied, and are they copies? Every measure, and one call that does it all."""
