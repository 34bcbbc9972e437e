"""What players want: objectives of adversarial games, penalties, fidelity."""
