"""The methods. Import them as ``refstream_projects.<name>``, never as ``projects.<name>``: see README.md."""
