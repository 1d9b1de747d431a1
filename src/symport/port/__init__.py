"""Put a fine-tune of the old base on the new base, from files, with a verdict."""
