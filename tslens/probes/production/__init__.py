"""What heads produce: how far each raises the logits of classes of next tokens where these come (``produce``)."""
