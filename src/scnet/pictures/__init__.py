"""What is drawn: objects on their image, their labels, the course of a training."""
