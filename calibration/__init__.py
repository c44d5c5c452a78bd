"""How this one car's servo and motor answer: from a wish to the width of a pulse, and back."""
