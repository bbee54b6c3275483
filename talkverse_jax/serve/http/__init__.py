"""What the server says over HTTP: routes, fields, checks, answers. Imports no JAX."""
