"""Videos found by a sentence, by an example or by what is said in them."""
