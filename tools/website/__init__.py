"""Build the website from the pages in book/ and the notebooks."""
