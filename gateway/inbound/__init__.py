"""Messages on their way in: access, commands, attachments, the receiver."""
