"""From files to arrays: reading, checking, splitting and caching a folder or zip of labelled images."""
