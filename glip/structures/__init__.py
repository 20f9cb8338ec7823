"""What flows between the floors: frozen values, validated when they are made."""
