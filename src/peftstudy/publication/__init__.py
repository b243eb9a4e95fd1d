"""What a trained model is handed on as: a folder in a library's own form, with a card that says where it comes from."""
