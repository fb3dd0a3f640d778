"""What a run leaves behind: files a person or a program reads."""
