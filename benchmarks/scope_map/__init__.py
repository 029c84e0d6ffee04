"""Where in fine-tuning does which criterion lower the loss?"""
