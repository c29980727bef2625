"""Tasks of the suite, one self-contained subpackage each; `tasks.core` is what they stand on."""
