"""Generated command lines, tampered folders and hostile files, and what every call on them must keep to: `make fuzz`."""
