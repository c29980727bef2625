"""Events with class, start and end from picture and sound, alone or together."""
