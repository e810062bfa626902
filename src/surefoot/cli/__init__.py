"""The command line: parse, call one function of the library, show. Results go to stdout, progress to stderr."""
