"""Is a running installation as it must be? What is looked at, by what it is about; and one call that tries all."""
