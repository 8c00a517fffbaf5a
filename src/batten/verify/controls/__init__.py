"""The controls, one file a family. Each is a pure function of what is planned and what is live."""
