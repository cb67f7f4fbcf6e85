"""Training: batches of whole stories, optimizer, schedule, evaluation, the loop that resumes."""
