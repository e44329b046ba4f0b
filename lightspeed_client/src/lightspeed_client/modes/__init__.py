"""What the commands do: stages composed from the parts, results printed."""
