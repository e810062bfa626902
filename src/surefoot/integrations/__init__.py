"""Other people's tools, each imported when it is used."""
